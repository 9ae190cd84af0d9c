/** b0 and b1000 of one DICOM examination as volumes (`fvv.io.dicom.stack`). */

import { type Image, median, sizeOf, type Shape } from "../arrays.js";
import { type Affine, type Case, FvvError, type Volume } from "../data.js";
import { spacing, volumeOf } from "../geometry.js";
import { fixed, general } from "../format.js";
import { MAX_VOXELS, ontoGrid } from "../nifti.js";
import { average } from "../protocol.js";
import { choose, describe, PLACE_TOLERANCE_MM, type Stack } from "./choose.js";
import { along, cross, type Frame, minus, norm, pixelsOf } from "./frames.js";
import { type DicomExamination, DicomReader, repeated } from "./group.js";
import { plain } from "./plain.js";

const SPACING_TOLERANCE = 0.05;
const STATED_TOLERANCE = 0.01;
const SAME_PLACE = 0.1;

/** Read the images of one person and study. */
export async function readDicom(examinationId: string, examination: DicomExamination): Promise<Case> {
  if (examination.error) throw examination.error;
  let choice;
  try {
    choice = choose(examination.frames);
  } catch (error) {
    if (!(error instanceof FvvError)) throw error;
    const leftOut = examination.leftOut.length ? `; left out: ${examination.leftOut.join(", ")}` : "";
    throw new FvvError(error.message + leftOut, error.hint);
  }
  const stacks = [choice.b0, choice.b1000] as const;
  const warnings = [...choice.warnings, ...repeats(...stacks)];
  const reader = new DicomReader();
  const read = await volumeOfStack(choice.b0, reader);
  const b1000 = await volumeOfStack(choice.b1000, reader);
  const { volume: b0, notes: moved } = ontoGrid(read, b1000, "b0 is");
  const seriesOf = [...new Set(stacks.map(({ first }) => plain(first.series)))].join(", ");
  const notes = [
    ...choice.notes,
    ...new Set(stacks.flatMap(statedStep)),
    ...examination.leftOut.map((what) => `left out: ${what}`),
    `StudyInstanceUID ${plain(choice.b1000.first.study)}, SeriesInstanceUID ${seriesOf}`,
    ...moved,
  ];
  return { examinationId, b0, b1000, bValue: choice.b1000.bValue, notes, warnings };
}

/** Average the images of each slice and stack the slices along their normal. */
async function volumeOfStack(stack: Stack, reader: DicomReader): Promise<Volume> {
  refuseGaps(stack);
  const [rows, columns] = stack.first.shape;
  const shape: Shape = [columns, rows, stack.slices.length];
  if (sizeOf(shape) > MAX_VOXELS) throw new FvvError(`${describe(stack)}: over the largest image read here`);
  const places = new Map<Frame, number>(stack.slices.flatMap((images, k) => images.map((frame) => [frame, k] as const)));
  const images: Float64Array[][] = stack.slices.map(() => []);
  const image: Image = { data: new Float64Array(sizeOf(shape)), shape };
  for (const frame of stack.frames) {
    const k = places.get(frame) ?? 0;
    images[k].push(pixelsOf(await reader.read(frame.file), frame));
    if (images[k].length < stack.slices[k].length) continue;
    const plane = average(images[k], stack.bValue);
    images[k] = [];
    // (row, column); the volume's axes are (column, row, slice).
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) image.data[(c * rows + r) * shape[2] + k] = plane[r * columns + c];
  }
  const affine = affineOf(stack);
  return volumeOf(image, affine.map((row, at) => (at < 2 ? row.map((one) => -one) : row))); // LPS to RAS.
}

/** Slices must follow each other at one distance, and the images of one slice lie at one place. */
function refuseGaps(stack: Stack): void {
  const tolerance = Math.max(SAME_PLACE * Math.min(...stack.first.spacing), PLACE_TOLERANCE_MM);
  stack.slices.forEach((images, k) => {
    const apart = Math.max(...images.map(({ position }) => norm(minus(position, images[0].position))));
    if (apart > tolerance) throw new FvvError(`images of slice ${k + 1} lie ${general(apart, 2)} mm apart in ${describe(stack)}`);
  });
  const places = stack.slices.map(([first]) => along(first, first));
  const steps = places.slice(1).map((at, k) => at - places[k]);
  const typical = steps.length ? median(Float64Array.from(steps)) : 0;
  const wide = steps.findIndex((step) => Math.abs(step - typical) > SPACING_TOLERANCE * typical);
  if (wide >= 0)
    throw new FvvError(
      `slices are missing in ${describe(stack)}: ${fixed(steps[wide], 1)} mm between slices ${wide + 1} and ${wide + 2}, ` +
        `elsewhere ${fixed(typical, 1)} mm`,
      "send the complete series again",
    );
}

/** Warnings of images of one place and InstanceNumber that are no copies. */
function repeats(low: Stack, high: Stack): string[] {
  const found = [low, high].map((stack) => repeated(stack.frames));
  const often = found.map((groups) => Math.max(1, ...groups.map((group) => group.length)));
  if (Math.min(...often) > 1 && often[0] === often[1]) {
    const [one, other] = found[0][0];
    throw new FvvError(
      `${other.file.name}: not the image that ${one.file.name} holds under the same number`,
      "two people's images, or two versions of one series: separate them, or keep the right ones",
    );
  }
  return ["b0", "b1000"].flatMap((name, at) =>
    often[at] > 1 ? [`${name}: ${often[at]} different images with one position and InstanceNumber are averaged: are they of one person?`] : [],
  );
}

/** Voxel (column, row, slice) to LPS+ mm (PS3.3, C.7.6.2.1.1), from the positions alone. */
function affineOf({ slices }: Stack): Affine {
  const [first, last] = [slices[0][0], slices[slices.length - 1][0]];
  const [row, column] = [first.orientation.slice(0, 3), first.orientation.slice(3)];
  const n = slices.length;
  const between = n > 1 ? minus(last.position, first.position).map((one) => one / (n - 1)) : cross(row, column);
  const rows = [0, 1, 2].map((at) => [row[at] * first.spacing[1], column[at] * first.spacing[0], between[at], first.position[at]]);
  return [...rows, [0, 0, 0, 1]];
}

/** A note where the header states another distance between slices than the positions. */
function statedStep(stack: Stack): string[] {
  const step = spacing(affineOf(stack))[2];
  const stated = stack.first.statedStep;
  if (stated === null || stack.slices.length < 2 || Math.abs(Math.abs(stated) - step) <= STATED_TOLERANCE * step) return [];
  return [`SpacingBetweenSlices is ${general(stated)} mm, but the positions lie ${general(step, 4)} mm apart: the positions are used`];
}
