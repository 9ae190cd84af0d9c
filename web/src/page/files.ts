/** What the given files are: b0 (or an ADC map) and b1000 by their names, or DICOM. */

import { mayHoldDicom } from "../engine/dicom/find.js";
import type { ImageFile } from "../engine/nifti.js";
import type { Given } from "./given.js";

const IMAGE = /\.nii(\.gz)?$/i;
const B0 = /(^|[^a-z0-9])b[-_=]?0{1,4}([^0-9]|$)/i;
const B1000 = /(^|[^a-z0-9])b[-_=]?(1000|1k)([^0-9]|$)|dwi|trace/i;
const ADC = /(^|[^a-z0-9])adc([^a-z0-9]|$)/i;

export interface Images {
  readonly images: readonly ImageFile[];
  /** Of each image, with its folder: files of two patients often have the same names. */
  readonly paths: readonly string[];
  /** Indices of the images that are meant; -1 where the names do not tell. */
  readonly b0: number;
  readonly b1000: number;
  /** The image that stands for b0 is an ADC map. */
  readonly adc: boolean;
}
export interface Dicom {
  readonly name: string;
  readonly dicom: readonly Given[];
}

/** Read files; refuses, in a sentence, what cannot be an examination. */
export async function chosen(files: readonly Given[]): Promise<Images | Dicom> {
  const images = files.filter(({ path }) => IMAGE.test(path));
  if (images.length) return chosenImages(files, images);
  for (const file of files) if (await mayHoldDicom(file)) return { name: nameOf(file.path, files.length), dicom: files };
  throw new Error("No NIfTI image and no DICOM among these files: b0 and b1000 end in .nii or .nii.gz; DICOM comes as a folder or a zip file.");
}

/** As Python names an examination: by its folder or zip file. */
function nameOf(path: string, n: number): string {
  const [first, ...rest] = path.split("/");
  return rest.length || n === 1 ? first.replace(/\.zip$/i, "") : "DICOM";
}

const stemOf = (name: string): string => name.replace(/\.(nii(\.gz)?|bval)$/i, "");

async function chosenImages(files: readonly Given[], found: readonly Given[]): Promise<Images> {
  const bvals = files.filter(({ path }) => /\.bval$/i.test(path));
  const images: ImageFile[] = [];
  const paths = found.map(({ path }) => path);
  for (const { path, blob } of found) {
    const beside = bvals.find((one) => stemOf(one.path) === stemOf(path)) ?? (found.length === 1 ? bvals[0] : undefined);
    images.push({ name: blob.name, bytes: new Uint8Array(await blob.arrayBuffer()), bval: await beside?.blob.text() });
  }
  if (images.length === 1) {
    if (images[0].bval === undefined)
      throw new Error(`Only one image, ${images[0].name}: give b0 (or an ADC map) and b1000, or a 4D file together with its .bval file.`);
    return { images, paths, b0: 0, b1000: 0, adc: false };
  }
  // Of several folders, which may be several patients, the visitor chooses.
  const apart = new Set(paths.map((path) => path.slice(0, path.lastIndexOf("/") + 1))).size > 1;
  return { images, paths, ...(apart ? { b0: -1, b1000: -1, adc: false } : rolesOf(images.map(({ name }) => stemOf(name)))) };
}

/** Which names are b0 (or, without one, an ADC map) and b1000. */
function rolesOf(names: readonly string[]): { b0: number; b1000: number; adc: boolean } {
  const matching = (pattern: RegExp): number[] => names.flatMap((name, at) => (pattern.test(name) ? [at] : []));
  const only = (places: readonly number[]): number => (places.length === 1 ? places[0] : -1);
  const maps = matching(ADC);
  let b0 = only(matching(B0).filter((at) => !maps.includes(at)));
  let b1000 = only(matching(B1000).filter((at) => at !== b0 && !maps.includes(at)));
  const adc = b0 < 0 && maps.length === 1;
  if (adc) b0 = maps[0];
  if (names.length === 2 && b0 < 0 && b1000 >= 0) b0 = 1 - b1000;
  if (names.length === 2 && b1000 < 0 && b0 >= 0) b1000 = 1 - b0;
  return { b0, b1000, adc };
}
