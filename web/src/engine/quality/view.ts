/** The examination as the checks look at it: on the scanner's own voxels, slices last (`fvv.imaging.quality.view`). */

import { count, type Image, layerCounts, type Mask, maximum, type Shape } from "../arrays.js";
import type { Case, PreparedCase } from "../data.js";
import { gridSpacing, restoreToNative, scaleSlices } from "../geometry.js";
import { erode, IN_PLANE } from "../ndimage.js";

export class NativeView {
  readonly b0: Image;
  readonly b1000: Image;
  readonly brain: Mask;
  /** The mask without its in-plane rim; the mask itself if that empties it. */
  readonly core: Mask;
  readonly notFinite: Mask;
  readonly spacingMm: readonly [number, number, number];
  readonly prepared: PreparedCase;
  readonly bValue: number | null;
  readonly usualRange: Readonly<Record<string, readonly [number, number]>>;
  /** Brain voxels of each slice. */
  readonly sliceAreas: Float64Array;
  /** Slices with at least 30 % of the largest slice's brain. */
  readonly innerSlices: readonly number[];
  /** Of each slice, whether it holds an image, not one value only. */
  readonly imaged: { readonly b0: readonly boolean[]; readonly b1000: readonly boolean[] };
  /** Slices that hold an image on both. */
  readonly imagedSlices: readonly number[];

  constructor(
    examination: Case,
    prepared: PreparedCase,
    notFinite: Mask,
    usualRange: Readonly<Record<string, readonly [number, number]>>,
  ) {
    const turnOnly = { ...prepared.grid, scale: 1 };
    this.brain = scaleSlices(restoreToNative(prepared.brain, prepared.grid, 0), turnOnly, 0);
    const core = erode(this.brain, IN_PLANE);
    this.core = count(core.data) ? core : this.brain;
    this.b0 = scaleSlices(examination.b0.image, turnOnly, 1);
    this.b1000 = scaleSlices(examination.b1000.image, turnOnly, 1);
    this.notFinite = scaleSlices(notFinite, turnOnly, 0);
    const [dx, dy, dz] = gridSpacing(prepared.grid);
    this.spacingMm = [dx * prepared.grid.scale, dy * prepared.grid.scale, dz];
    this.prepared = prepared;
    this.bValue = examination.bValue;
    this.usualRange = usualRange;
    this.sliceAreas = layerCounts(this.brain, 2);
    const least = 0.3 * maximum(this.sliceAreas);
    this.innerSlices = places(this.sliceAreas, (area) => area > least);
    this.imaged = { b0: holdsImage(this.b0), b1000: holdsImage(this.b1000) };
    this.imagedSlices = places(this.imaged.b0, (one, k) => one && this.imaged.b1000[k]);
  }

  /** Voxels along each axis that reach farther than this in plane, and one slice. */
  voxels(roomMm: number): Shape {
    return [Math.trunc(roomMm / this.spacingMm[0]) + 1, Math.trunc(roomMm / this.spacingMm[1]) + 1, 1];
  }
}

/** The slice is not of one value only. */
function holdsImage(image: Image): boolean[] {
  const nk = image.shape[2];
  const found = new Array<boolean>(nk).fill(false);
  for (let at = 0, left = nk; at < image.data.length && left; at++)
    if (image.data[at] !== image.data[at % nk] && !found[at % nk]) {
      found[at % nk] = true;
      left--;
    }
  return found;
}

export function places<T>(values: ArrayLike<T>, rule: (value: T, at: number) => boolean): number[] {
  const found: number[] = [];
  for (let at = 0; at < values.length; at++) if (rule(values[at], at)) found.push(at);
  return found;
}
