/** What the network is given: slices with their neighbours (`fvv.imaging.slabs`). Channels are (b1000, b0). */

import { minimum } from "./arrays.js";
import type { PreparedCase } from "./data.js";

export interface NetworkInput {
  /** (2, slices + 2 * context, i, j); beyond the volume lies its minimum over both channels. */
  readonly data: Float32Array;
  readonly slices: number;
  readonly context: number;
  readonly size: number;
}

export function networkInput({ b0, b1000 }: PreparedCase, context: number): NetworkInput {
  const [size, , slices] = b0.shape;
  const plane = size * size;
  const depth = slices + 2 * context;
  const data = new Float32Array(2 * depth * plane).fill(Math.min(minimum(b0.data), minimum(b1000.data)));
  [b1000, b0].forEach((image, channel) => {
    for (let at = 0; at < plane; at++)
      for (let k = 0; k < slices; k++) data[(channel * depth + context + k) * plane + at] = image.data[at * slices + k];
  });
  return { data, slices, context, size };
}

/** (2, last - first + 2 * context, i, j): slices [first, last) with their neighbours. */
export function part(input: NetworkInput, first: number, last: number): Float32Array {
  const plane = input.size * input.size;
  const depth = input.slices + 2 * input.context;
  const taken = last - first + 2 * input.context;
  const data = new Float32Array(2 * taken * plane);
  for (const channel of [0, 1])
    data.set(
      input.data.subarray((channel * depth + first) * plane, (channel * depth + first + taken) * plane),
      channel * taken * plane,
    );
  return data;
}
