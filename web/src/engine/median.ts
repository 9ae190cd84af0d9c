/** A median filter over 3 x 3 x 3 voxels; the border voxel is repeated. */

import type { Image } from "./arrays.js";
import { medianProgram } from "./median_program.js";

/** Repeated `passes` times. Whole numbers from 0 to 65535 go through WebAssembly, others through a selection. */
export function median3x3x3(image: Image, passes: number): Image {
  let whole = true;
  for (let at = 0; whole && at < image.data.length; at++) whole = image.data[at] === (image.data[at] & 0xffff);
  if (whole) return byNetwork(image, passes);
  let { data } = image;
  for (let pass = 0; pass < passes; pass++) data = bySelection(data, image.shape);
  return { data, shape: image.shape };
}

/** Two copies of the image, each with a rim of one voxel, are filtered into each other. */
function byNetwork({ data, shape: [ni, nj, nk] }: Image, passes: number): Image {
  const row = nk + 2;
  const plane = (nj + 2) * row;
  const first = plane + row + 1;
  const size = (ni + 2) * plane + 8; // The last eight voxels may end beyond the image.
  const { memory, filter } = medianProgram(4 * size);
  const copies = [new Uint16Array(memory.buffer, 0, size), new Uint16Array(memory.buffer, 2 * size, size)];
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++, at += nk) copies[0].set(data.subarray(at, at + nk), first + i * plane + j * row);
  for (let pass = 0; pass < passes; pass++) {
    const from = pass % 2;
    fillRim(copies[from], [ni, nj, nk]);
    const [into, end] = [first, first + (ni - 1) * plane + nj * row].map((at) => 2 * (at + (1 - from) * size));
    filter(into, end, 2 * from * size, 2 * row, 2 * plane);
  }
  const result = new Float64Array(data.length);
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++) {
      const start = first + i * plane + j * row;
      for (let k = 0; k < nk; k++) result[at++] = copies[passes % 2][start + k];
    }
  return { data: result, shape: [ni, nj, nk] };
}

/** The rim repeats the voxels beside it: along k, then whole rows along j, then whole planes along i. */
function fillRim(data: Uint16Array, [ni, nj, nk]: Image["shape"]): void {
  const row = nk + 2;
  const plane = (nj + 2) * row;
  for (let start = plane; start < plane * (ni + 1); start += row) {
    data[start] = data[start + 1];
    data[start + nk + 1] = data[start + nk];
  }
  for (let start = plane; start < plane * (ni + 1); start += plane) {
    data.copyWithin(start, start + row, start + 2 * row);
    data.copyWithin(start + (nj + 1) * row, start + nj * row, start + (nj + 1) * row);
  }
  data.copyWithin(0, plane, 2 * plane);
  data.copyWithin((ni + 1) * plane, ni * plane, (ni + 1) * plane);
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
