/** Who is who among dropped DICOM objects (`fvv.io.dicom.group`): every header read once, one examination of one person. */

import { FvvError } from "../data.js";
import { type Dataset, parseDicom } from "./dataset.js";
import { type DicomFile, type Dropped, findFiles } from "./find.js";
import { type Frame, framesOf, pixelsOf } from "./frames.js";

const ROUNDED_MM = 2;

/** Reads DICOM files; keeps the last, as an enhanced object or a mosaic holds many slices. */
export class DicomReader {
  private last: { file: DicomFile; dataset: Dataset } | null = null;

  async read(file: DicomFile): Promise<Dataset> {
    if (this.last?.file !== file) {
      const bytes = await file.bytes();
      try {
        this.last = { file, dataset: parseDicom(bytes) };
      } catch (error) {
        throw named(error, file);
      }
    }
    return this.last.dataset;
  }
}

/** The same refusal with the file's name; whatever a damaged file raises is one. */
export function named(error: unknown, file: DicomFile): FvvError {
  if (error instanceof FvvError) return error.message.startsWith(file.name) ? error : new FvvError(`${file.name}: ${error.message}`, error.hint);
  return new FvvError(`${file.name}: not readable as DICOM: ${String(error)}`);
}

/** What the headers say: slices, each once; how many objects are none, by reason; damage, by folder. */
export interface Index {
  readonly frames: readonly Frame[];
  readonly leftOut: ReadonlyMap<string, number>;
  readonly damage: readonly (readonly [string, FvvError])[];
}

export interface DicomExamination {
  readonly frames: readonly Frame[];
  readonly leftOut: readonly string[];
  readonly others: number;
  readonly error: FvvError | null;
}

/** Read the header of every DICOM file once; `told` hears how far it is. */
export async function indexOf(dropped: readonly Dropped[], told: (done: number, of: number) => void = () => {}): Promise<Index> {
  const reader = new DicomReader();
  const frames = new Map<string, Frame>();
  const keys = new Map<Frame, string>();
  const sameUid: [Frame, Frame][] = [];
  const leftOut = new Map<string, number>();
  const damage: [string, FvvError][] = [];
  const files = await findFiles(dropped);
  const numbers = new Map(files.map((file, at) => [file, at]));
  for (const [at, file] of files.entries()) {
    if (at % 50 === 0) told(at, files.length);
    let slices: Frame[];
    let reason: string;
    try {
      ({ frames: slices, reason } = framesOf(file, await reader.read(file)));
    } catch (error) {
      damage.push([file.folder, named(error, file)]);
      continue;
    }
    if (reason) leftOut.set(reason, (leftOut.get(reason) ?? 0) + 1);
    for (const frame of slices) {
      const key = `${frame.sop || String(numbers.get(file))}\n${frame.index}`;
      const first = frames.get(key);
      if (!first) {
        frames.set(key, frame);
        keys.set(frame, key);
      } else if (!sameUid.some(([a, b]) => a.file === first.file && b.file === frame.file)) sameUid.push([first, frame]);
    }
  }
  for (const [one, other] of sameUid)
    if (await differ(one, other, reader)) {
      const error = new FvvError(
        `${other.file.name}: not the image that ${one.file.name} holds under the same UID`,
        "two people's images, or two versions of one: separate them, or keep the right one",
      );
      damage.push([one.file.folder, error], [other.file.folder, error]);
    }
  for (const [one, ...others] of repeated([...frames.values()]))
    for (const other of others) if (!(await differ(one, other, reader))) frames.delete(keys.get(other) ?? "");
  return { frames: [...frames.values()], leftOut, damage };
}

/** Diffusion images of one series that state the same numbers, place and b-value, and are several objects. */
export function repeated(frames: readonly Frame[]): Frame[][] {
  const groups = new Map<string, Frame[]>();
  for (const frame of frames) {
    if (frame.numbers === null || frame.weighting.bValue === null) continue;
    const place = frame.position.map((one) => one.toFixed(ROUNDED_MM));
    const key = JSON.stringify([frame.study, frame.person, frame.series, frame.numbers, frame.index, place, frame.weighting]);
    append(groups, key, frame);
  }
  return [...groups.values()].filter((group) => new Set(group.map(({ sop }) => sop)).size > 1);
}

export function append<K, T>(groups: Map<K, T[]>, key: K, item: T): void {
  const group = groups.get(key);
  if (group) group.push(item);
  else groups.set(key, [item]);
}

/** Whether two slices lie at two places or hold other values. What cannot be read is no copy. */
async function differ(one: Frame, other: Frame, reader: DicomReader): Promise<boolean> {
  if (one.position.some((at, axis) => at !== other.position[axis]) || one.weighting.bValue !== other.weighting.bValue) return true;
  try {
    const here = pixelsOf(await reader.read(one.file), one);
    const there = pixelsOf(await reader.read(other.file), other);
    return here.length !== there.length || here.some((value, at) => value !== there[at]);
  } catch {
    return true;
  }
}

const studyOf = (frame: Frame): string => `${frame.person}\n\n${frame.study}`;

/** One examination for each person and study with diffusion images, by date of study. */
export function examinationsOf(index: Index): DicomExamination[] {
  const groups = new Map<string, Frame[]>();
  for (const frame of index.frames) append(groups, studyOf(frame), frame);
  const isWeighted = ({ weighting }: Frame): boolean => weighting.declared || (weighting.bValue ?? 0) > 0;
  const wanted = [...groups].filter(([, frames]) => frames.some(isWeighted));
  const leftOut = new Map(index.leftOut);
  if (!wanted.length) {
    const error = index.damage[0]?.[1] ?? null;
    return [{ frames: index.frames, leftOut: counted(leftOut), others: 0, error }];
  }
  const others = [...groups].filter(([, frames]) => !frames.some(isWeighted)).reduce((n, [, frames]) => n + frames.length, 0);
  const reason = "images of studies without diffusion images";
  if (others) leftOut.set(reason, (leftOut.get(reason) ?? 0) + others);
  const first = ([key, frames]: [string, Frame[]]): string => `${frames.map(({ studyTime }) => studyTime).sort()[0]}\n${key}`;
  const ordered = wanted.sort((a, b) => (first(a) < first(b) ? -1 : 1));
  const anyone = new Set(wanted.flatMap(([, frames]) => frames.map(({ file }) => file.folder)));
  return ordered.map(([, frames]) => {
    // Damage beside these images, or beside nobody's: a slice that is lost in silence is a wrong number.
    const mine = new Set(frames.map(({ file }) => file.folder));
    const damage = index.damage.find(([folder]) => mine.has(folder) || !anyone.has(folder))?.[1];
    return { frames, leftOut: counted(leftOut), others: ordered.length - 1, error: damage ?? twoPeople(frames) };
  });
}

const counted = (leftOut: ReadonlyMap<string, number>): string[] =>
  [...leftOut].sort(([a], [b]) => (a < b ? -1 : 1)).map(([reason, number]) => `${number} ${reason}`);

/** Two dates of birth under one number and in one study: an anonymised set whose numbers collide. */
function twoPeople(frames: readonly Frame[]): FvvError | null {
  const born = new Map<string, Frame>();
  for (const frame of frames) if (frame.born && !born.has(frame.born)) born.set(frame.born, frame);
  const [one, other] = [...born.values()];
  if (!other) return null;
  return new FvvError(
    `${other.file.name}: of one PatientID and study as ${one.file.name}, but with another date of birth`,
    "separate the people's images into folders of their own",
  );
}

/** The one examination among dropped files; several are refused, for this page answers for one patient. */
export function onlyExamination(index: Index): DicomExamination {
  const found = examinationsOf(index);
  if (found.length === 1) return found[0];
  const people = new Set(found.map(({ frames }) => frames[0].person)).size;
  const what = people > 1 ? `images of ${people} people` : `${found.length} studies of one person`;
  throw new FvvError(
    `These files hold ${what} with diffusion images, which are never mixed`,
    "give the images of one person and one study; `fvv predict` answers for each",
  );
}
