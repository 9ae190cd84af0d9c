/** What an acquisition must be: its b-values, and how volumes are averaged to b0 and b1000 (`fvv.protocol`). */

import { mean as meanOf } from "./arrays.js";
import { general } from "./format.js";

export const TARGET_B = 1000;
export const B0_TOLERANCE = 50;
const B1000_TOLERANCE = 150;
const NEAR_B_TOLERANCE = 350;
export const B_RANGE = [500, 2500] as const;
const AROUND_B_RANGE = 25;
export const SHELL_GAP = 50;
const B0_SHELL_GAP = 10;
export const USUAL_LOG_DROP = [0.5, 1.3] as const;
export const TYPICAL_LOG_DROP = 0.85;
export const LOG_DROP_NEAR_1000 = [0.5, 1.45] as const;
const LEAST_SIGNAL = 1e-6;

/** Volumes of one b-value, which are averaged to one image. */
export interface Shell {
  readonly indices: readonly number[];
  readonly bValue: number;
}

export const isB0 = (b: number): boolean => b <= B0_TOLERANCE;
export const mayBeB1000 = (b: number): boolean => B_RANGE[0] - AROUND_B_RANGE <= b && b <= B_RANGE[1] + AROUND_B_RANGE;
export const isNearB1000 = (b: number): boolean => Math.abs(b - TARGET_B) <= NEAR_B_TOLERANCE;
export const isUsualB1000 = (b: number): boolean => Math.abs(b - TARGET_B) <= B1000_TOLERANCE;
export const isBroughtToB1000 = (b: number | null): boolean => b !== null && mayBeB1000(b) && !isUsualB1000(b);

/** How badly a shell stands for b1000, for comparison: the nearest is taken, of two equally near the lower. */
export const distance = (b: number): readonly [number, number] => [Math.abs(b - TARGET_B), b];

/** All shells that may be b0 or b1000, by ascending b-value. */
export function shells(bValues: readonly number[]): Shell[] {
  const found: Shell[] = [];
  for (const [belongs, gap] of [
    [isB0, B0_SHELL_GAP],
    [mayBeB1000, SHELL_GAP],
  ] as const) {
    const members = bValues.map((_, at) => at).filter((at) => belongs(bValues[at]));
    for (const group of split(members.map((at) => bValues[at]), gap)) {
      const indices = group.map((at) => members[at]).sort((a, b) => a - b);
      found.push({ indices, bValue: meanOf(Float64Array.from(indices, (at) => bValues[at])) });
    }
  }
  return found;
}

export const b0Volumes = (bValues: readonly number[]): Shell | null =>
  shells(bValues).find((shell) => isB0(shell.bValue)) ?? null;

export function b1000Volumes(bValues: readonly number[]): Shell | null {
  const possible = shells(bValues).filter((shell) => mayBeB1000(shell.bValue));
  possible.sort((a, b) => distance(a.bValue)[0] - distance(b.bValue)[0] || a.bValue - b.bValue);
  return possible[0] ?? null;
}

/** A sentence on the other shells that could have been b1000; "" where there are none. */
export function choiceNote(bValue: number, available: readonly number[]): string {
  const possible = isNearB1000(bValue) ? isNearB1000 : mayBeB1000;
  const others = [...new Set(available)].filter((b) => possible(b) && Math.abs(b - bValue) > SHELL_GAP).sort((a, b) => a - b);
  const named = others.map((b) => general(b)).join(", ");
  return named && `also holds b = ${named} s/mm^2; only b = ${general(bValue)}, nearest to ${TARGET_B}, is used`;
}

/** Mean of the volumes of one shell: arithmetic of b0; geometric, over directions, of b1000. */
export function average(images: readonly Float64Array[], bValue: number): Float64Array {
  if (images.length === 1) return images[0];
  const geometric = !isB0(bValue);
  return images[0].map((_, at) => {
    let total = 0;
    images.forEach((image, n) => {
      const value = geometric ? Math.log(Math.max(image[at], LEAST_SIGNAL)) : image[at];
      total = n ? total + value : value;
    });
    total /= images.length;
    return geometric ? Math.exp(total) : total;
  });
}

/** Indices by ascending value, in groups whose neighbours lie no farther apart than the gap. */
export function split(values: readonly number[], gap: number): number[][] {
  const order = values.map((_, at) => at).sort((a, b) => values[a] - values[b]);
  const groups: number[][] = [];
  order.forEach((index, at) => {
    if (at && values[index] - values[order[at - 1]] <= gap) groups[groups.length - 1].push(index);
    else groups.push([index]);
  });
  return groups;
}
