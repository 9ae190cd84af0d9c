/** Which of the dropped files is b0, and which b1000. */

import type { ImageFile } from "../engine/nifti.js";

const IMAGE = /\.nii(\.gz)?$/i;
const B0 = /(^|[^a-z0-9])b[-_=]?0{1,4}([^0-9]|$)/i;
const B1000 = /(^|[^a-z0-9])b[-_=]?(1000|1k)([^0-9]|$)|dwi|trace/i;

export interface Choice {
  readonly images: readonly ImageFile[];
  /** Indices of the images that are meant; -1 where the names do not tell. */
  readonly b0: number;
  readonly b1000: number;
}

/** Read files; refuses, in a sentence, what cannot be an examination. */
export async function chosen(files: readonly File[]): Promise<Choice> {
  const stem = (name: string): string => name.replace(/\.(nii(\.gz)?|bval)$/i, "");
  const bvals = files.filter((file) => /\.bval$/i.test(file.name));
  const found = files.filter((file) => IMAGE.test(file.name));
  if (!found.length) throw new Error("No NIfTI image among these files: b0 and b1000 end in .nii or .nii.gz.");
  const images: ImageFile[] = [];
  for (const file of found) {
    const beside = bvals.find((one) => stem(one.name) === stem(file.name)) ?? (found.length === 1 ? bvals[0] : undefined);
    const bytes = new Uint8Array(await file.arrayBuffer());
    images.push({ name: file.name, bytes, bval: await beside?.text() });
  }
  if (images.length === 1) {
    if (images[0].bval === undefined)
      throw new Error(`Only one image, ${images[0].name}: give b0 and b1000, or a 4D file together with its .bval file.`);
    return { images, b0: 0, b1000: 0 };
  }
  const matching = (pattern: RegExp): number[] => images.flatMap(({ name }, at) => (pattern.test(stem(name)) ? [at] : []));
  const only = (places: number[]): number => (places.length === 1 ? places[0] : -1);
  let b0 = only(matching(B0));
  let b1000 = only(matching(B1000).filter((at) => at !== b0));
  if (images.length === 2 && b0 < 0 && b1000 >= 0) b0 = 1 - b1000;
  if (images.length === 2 && b1000 < 0 && b0 >= 0) b1000 = 1 - b0;
  return { images, b0, b1000 };
}
