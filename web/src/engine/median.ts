/** A median filter over 3 x 3 x 3 voxels; the border voxel is repeated. */

import type { Image } from "./arrays.js";

const MOST_LEVELS = 4096;

/** Repeated `passes` times. Whole numbers from 0 to 4095 go through a sliding histogram, others through a selection. */
export function median3x3x3(image: Image, passes: number): Image {
  let whole = true;
  for (let at = 0; whole && at < image.data.length; at++) {
    const value = image.data[at];
    whole = Number.isInteger(value) && value >= 0 && value < MOST_LEVELS;
  }
  let data: Float64Array | Uint16Array = whole ? Uint16Array.from(image.data) : image.data;
  for (let pass = 0; pass < passes; pass++) {
    data = data instanceof Uint16Array ? bySlidingHistogram(data, image.shape) : bySelection(data, image.shape);
  }
  return { data: Float64Array.from(data), shape: image.shape };
}

/** Huang's running median (1979): along j, nine values leave and nine enter. */
function bySlidingHistogram(data: Uint16Array, [ni, nj, nk]: Image["shape"]): Uint16Array {
  const result = new Uint16Array(data.length);
  const histogram = new Uint8Array(MOST_LEVELS);
  const corners = new Int32Array(9);
  const held = (j: number): number => Math.min(Math.max(j, 0), nj - 1) * nk;
  for (let i = 0; i < ni; i++)
    for (let k = 0; k < nk; k++) {
      for (let di = -1, n = 0; di <= 1; di++)
        for (let dk = -1; dk <= 1; dk++)
          corners[n++] = Math.min(Math.max(i + di, 0), ni - 1) * nj * nk + Math.min(Math.max(k + dk, 0), nk - 1);
      let middle = 0;
      let below = 0; // Values under `middle`.
      for (const j of [-1, 0, 1]) for (let n = 0; n < 9; n++) if (data[corners[n] + held(j)] < middle) below++;
      for (const j of [-1, 0, 1]) for (let n = 0; n < 9; n++) histogram[data[corners[n] + held(j)]]++;
      for (let j = 0; ; j++) {
        while (below > 13) below -= histogram[--middle];
        while (below + histogram[middle] <= 13) below += histogram[middle++];
        result[(i * nj + j) * nk + k] = middle;
        const leaves = held(j - 1);
        if (j === nj - 1) break;
        const enters = held(j + 2);
        for (let n = 0; n < 9; n++) {
          const old = data[corners[n] + leaves];
          histogram[old]--;
          if (old < middle) below--;
          const fresh = data[corners[n] + enters];
          histogram[fresh]++;
          if (fresh < middle) below++;
        }
      }
      for (const j of [nj - 2, nj - 1, nj]) for (let n = 0; n < 9; n++) histogram[data[corners[n] + held(j)]] = 0;
    }
  return result;
}

function bySelection(data: Float64Array, [ni, nj, nk]: Image["shape"]): Float64Array {
  const result = new Float64Array(data.length);
  const values = new Float64Array(27);
  const held = (at: number, n: number): number => Math.min(Math.max(at, 0), n - 1);
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++) {
        let n = 0;
        for (let a = i - 1; a <= i + 1; a++)
          for (let b = j - 1; b <= j + 1; b++)
            for (let c = k - 1; c <= k + 1; c++) {
              const value = data[(held(a, ni) * nj + held(b, nj)) * nk + held(c, nk)];
              let place = n++;
              // Insertion: of 27 values the fastest way to the middle.
              for (; place > 0 && values[place - 1] > value; place--) values[place] = values[place - 1];
              values[place] = value;
            }
        result[at] = values[13];
      }
  return result;
}
