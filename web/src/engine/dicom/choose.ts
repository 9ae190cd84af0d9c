/** Which images of a study are its b0 and its b1000 (`fvv.io.dicom.choose`). */

import { mean, rint } from "../arrays.js";
import { FvvError } from "../data.js";
import { general } from "../format.js";
import { choiceNote, distance, isB0, isUsualB1000, mayBeB1000, SHELL_GAP, shells, split } from "../protocol.js";
import { along, type Frame, type Vector } from "./frames.js";
import { append } from "./group.js";
import { plain } from "./plain.js";
import { COMPUTED, descriptionWords, meet, OTHER_CONTRASTS } from "./weighting.js";

export const PLACE_TOLERANCE_MM = 0.1;
const LONGEST_NAME = 64;
const ORIENTATION_TOLERANCE = 1e-3;

/** Images of one series, one kind and one b-value: what may be averaged slice by slice. */
export interface Stack {
  readonly frames: readonly Frame[];
  readonly first: Frame;
  readonly bValue: number;
  /** Images of each slice, from the lowest along the normal to the highest. */
  readonly slices: readonly (readonly Frame[])[];
}

export interface Choice {
  readonly b0: Stack;
  readonly b1000: Stack;
  readonly notes: readonly string[];
  readonly warnings: readonly string[];
}
type Pair = readonly [Stack, Stack];

function stackOf(frames: readonly Frame[]): Stack {
  const first = frames[0];
  const groups = split(frames.map((frame) => along(first, frame)), PLACE_TOLERANCE_MM);
  return {
    frames,
    first,
    bValue: mean(Float64Array.from(frames, ({ weighting }) => weighting.bValue ?? 0)),
    slices: groups.map((group) => group.map((at) => frames[at])),
  };
}

export function describe(stack: Stack): string {
  let name = plain(stack.first.description);
  if (name.length > LONGEST_NAME) name = `${name.slice(0, LONGEST_NAME)}...`;
  return (
    `series ${stack.first.seriesNumber} '${name}' (b = ${general(stack.bValue)} s/mm^2, ` +
    `${stack.slices.length} slices, ${general(stack.frames.length / stack.slices.length)} images a slice)`
  );
}

/** The b0 and b1000 of one study that belong together best; the rule stands in Python. */
export function choose(frames: readonly Frame[]): Choice {
  const usable = frames.filter(({ weighting }) => !weighting.notUsed);
  const stacks = stacksOf(withSilentB0(usable));
  const low = stacks.filter(({ bValue }) => isB0(bValue));
  const high = stacks.filter(({ bValue }) => mayBeB1000(bValue));
  let pairs: Pair[] = high.flatMap((b1000) => low.filter((b0) => isOneAcquisition(b0.first, b1000.first)).map((b0): Pair => [b0, b1000]));
  if (!pairs.length) throw nothing(frames, usable, low.length && !high.length ? "b1000" : "b0");
  // What one of two does not state decides nothing.
  pairs = pairs.filter(([a, b]) => agree([a.first.frameOfReference], [b.first.frameOfReference]));
  if (!pairs.length)
    throw new FvvError("b0 and b1000 lie in different frames of reference", "the patient was repositioned between them: register the images first");
  pairs = pairs.filter(([a, b]) => agree(a.first.scanner, b.first.scanner));
  if (!pairs.length)
    throw new FvvError(
      "b0 and b1000 come from two scanners, by manufacturer or serial number",
      "to use them anyway, give `fvv predict --series` with the numbers of both",
    );
  const best = pairs.reduce((one, other) => (compare(suitability(other), suitability(one)) > 0 ? other : one));
  return { b0: best[0], b1000: best[1], notes: notesOf(best, pairs, high), warnings: warningsOf(best) };
}

/** Images with a b-value. Within a series with b > 0, those without one and without direction are b0 (Toshiba). */
function withSilentB0(frames: readonly Frame[]): Frame[] {
  const bySeries = new Map<string, Frame[]>();
  for (const frame of frames) append(bySeries, frame.series, frame);
  return [...bySeries.values()].flatMap((found) => {
    const stated = found.flatMap(({ weighting }) => weighting.bValue ?? []);
    const kinds = new Set(found.filter(({ weighting }) => !isB0(weighting.bValue ?? 0)).map(({ weighting }) => weighting.kind.join("\\")));
    const silent = kinds.size > 0 && !isB0(Math.min(...stated));
    return found.flatMap((frame): Frame[] => {
      const { weighting } = frame;
      if (weighting.bValue !== null) return [frame];
      const ofAKind = kinds.has(weighting.kind.join("\\")) || weighting.kind.includes("ORIGINAL");
      return silent && !weighting.directed && ofAKind ? [{ ...frame, weighting: { ...weighting, bValue: 0, declared: true } }] : [];
    });
  });
}

function stacksOf(frames: readonly Frame[]): Stack[] {
  const groups = new Map<string, Frame[]>();
  for (const frame of frames) {
    const { weighting, timing } = frame;
    const isotropic = weighting.isotropic && !isB0(weighting.bValue ?? 0);
    const echo = timing[0] === null ? null : rint(timing[0]);
    append(groups, JSON.stringify([frame.series, frame.frameOfReference, frame.shape, weighting.kind, isotropic, echo]), frame);
  }
  return [...groups.values()].flatMap((group) => {
    const planes: Frame[][] = [];
    for (const frame of group) {
      const plane = planes.find(([first]) => isParallel(frame, first, 1e-3));
      if (plane) plane.push(frame);
      else planes.push([frame]);
    }
    return planes.flatMap((plane) =>
      shells(plane.map(({ weighting }) => weighting.bValue ?? 0)).flatMap((shell) =>
        byDirection(shell.indices.map((at) => plane[at]), isB0(shell.bValue)),
      ),
    );
  });
}

/** Images along directions, and apart from them one without a direction among them: their average. */
function byDirection(shell: readonly Frame[], low: boolean): Stack[] {
  const directed = shell.filter(({ weighting }) => weighting.directed);
  const rest = shell.filter(({ weighting }) => !weighting.directed);
  if (!directed.length || !rest.length || low) return [stackOf(shell)];
  return [stackOf(directed), stackOf(rest.map((frame) => ({ ...frame, weighting: { ...frame.weighting, isotropic: true } })))];
}

function isParallel(a: Frame, b: Frame, spacingTolerance: number): boolean {
  const close = (one: Vector, other: Vector, absolute: number, relative: number): boolean =>
    one.every((value, at) => Math.abs(value - other[at]) <= absolute + relative * Math.abs(other[at]));
  return close(a.orientation, b.orientation, ORIENTATION_TOLERANCE, 1e-5) && close(a.spacing, b.spacing, 1e-8, spacingTolerance);
}

/** Whether an image with b = 0 belongs to a diffusion acquisition, and not to FLAIR or another contrast. */
function isOneAcquisition(low: Frame, high: Frame): boolean {
  if (low.series === high.series || low.weighting.declared) return true;
  const apart = low.timing.some((a, at) => {
    const b = high.timing[at];
    return (a === null) !== (b === null) || (a !== null && b !== null && Math.abs(a - b) > 0.01 * Math.max(a, b));
  });
  if (apart) return false;
  const known = descriptionWords(`${high.description} ${high.protocol}`);
  const others = [...descriptionWords(`${low.description} ${low.protocol}`)].filter((word) => !known.has(word));
  return !meet(others, OTHER_CONTRASTS);
}

const agree = (low: readonly string[], high: readonly string[]): boolean => low.every((a, at) => !a || !high[at] || a === high[at]);

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, place) => value !== b[place]);
  return at < 0 ? 0 : a[at] - b[at];
}

function suitability([low, high]: Pair): number[] {
  const [a, b] = [low.first, high.first];
  return [
    ...quality([low, high]),
    Number(b.weighting.isotropic),
    Number(!b.weighting.kind.includes("DERIVED")),
    Number(a.series === b.series),
    Number(a.description === b.description),
    high.slices.length,
    ...distance(high.bValue).map((one) => -one),
    -low.bValue,
    -b.seriesNumber,
    -a.seriesNumber,
  ];
}

/** What two complete sets of images must share for the choice between them to be worth a word. */
function quality([low, high]: Pair): number[] {
  const [a, b] = [low.first, high.first];
  const sameShape = low.slices.length === high.slices.length && a.shape.every((n, at) => n === b.shape[at]);
  const worse = [a, b].filter(({ weighting, description }) => weighting.kind.includes("SECONDARY") || meet(descriptionWords(description), COMPUTED));
  return [
    Number(sameShape && isParallel(a, b, 1e-2)),
    Number(isUsualB1000(high.bValue)),
    -Math.floor(distance(high.bValue)[0] / SHELL_GAP),
    -worse.length,
  ];
}

function notesOf(best: Pair, pairs: readonly Pair[], high: readonly Stack[]): string[] {
  const [low, chosen] = best;
  const { series, seriesNumber } = chosen.first;
  const notes = [`b0 from ${describe(low)}; b1000 from ${describe(chosen)}`];
  const note = choiceNote(chosen.bValue, high.filter(({ first }) => first.series === series).map(({ bValue }) => bValue));
  if (note) notes.push(`series ${seriesNumber}: ${note}`);
  const others = new Map(pairs.filter((pair) => compare(quality(pair), quality(best)) === 0).map(([, b]) => [b.first.series, b]));
  others.delete(series);
  if (others.size)
    notes.push(
      `b1000 could also be ${[...others.values()].map(describe).join("; ")}: preferred are the trace image, then one series for b0 and ` +
        "b1000, then the lowest number; `fvv predict --series` chooses another",
    );
  return notes;
}

function warningsOf(best: Pair): string[] {
  return best.flatMap((stack, at) => {
    const counts = stack.slices.map((images) => images.length);
    const [few, many] = [Math.min(...counts), Math.max(...counts)];
    const name = ["b0", "b1000"][at];
    return few < many ? [`${name}: the number of images a slice differs (${few} to ${many}): images were lost, or sent twice`] : [];
  });
}

function nothing(frames: readonly Frame[], usable: readonly Frame[], missing: string): FvvError {
  if (!frames.length)
    return new FvvError("holds no slices of MR images", "a folder or zip file of DICOM images is expected; unpack what else a zip file holds");
  let known = [...new Set(usable.map(({ seriesNumber, weighting }) => `${seriesNumber}: b = ${bInWords(weighting.bValue)}`))].sort();
  if (!usable.length) {
    const unused = new Map<string, number>();
    for (const { weighting } of frames) unused.set(weighting.notUsed, (unused.get(weighting.notUsed) ?? 0) + 1);
    known = [...unused].sort().map(([reason, number]) => `${number} ${reason}`);
  }
  const among = known.join(", ") || "no diffusion images";
  return new FvvError(`no ${missing} among its series (${among.length > 300 ? `${among.slice(0, 296)} ...` : among})`);
}

/** As Python writes a float or None. */
const bInWords = (bValue: number | null): string => (bValue === null ? "None" : Number.isInteger(bValue) ? `${bValue}.0` : `${bValue}`);
