/** What an image says of its diffusion weighting and of its kind (`fvv.io.dicom.weighting`). */

import { siemensCsa } from "./csa.js";
import type { Dataset, Keyword } from "./dataset.js";

const GE_OFFSET = 100_000;
const SEQUENCE_NAME_B = /_b(\d+)/;
export const COMPUTED = new Set(["ADC", "EADC", "EXP", "FA", "COLFA", "TENSOR", "DADC"]);
const NO_SLICES = new Set(["LOCALIZER", "SCOUT", "PROJECTION IMAGE", "SCREEN SAVE", "SCREENSAVE", "MPR"]);
const COMPLEX = new Set(["P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY MAP"]);
const WEIGHTED = new Set(["DIRECTIONAL", "ISOTROPIC", "BMATRIX"]);
const TRACE = new Set(["TRACEW", "TRACE", "ISOTROPIC"]);
export const OTHER_CONTRASTS = new Set(["FLAIR", "T1", "T2", "T1W", "T2W", "SWI", "GRE", "TOF", "MPRAGE", "PERFUSION", "ASL", "BOLD"]);

/** Tag, and a word of the name of the maker's block. */
type Private = readonly [number, string];
const B_VALUES: readonly Private[] = [
  [0x0019100c, "SIEMENS"],
  [0x20011003, "PHILIPS"],
  [0x00431039, "GEMS"],
  [0x00651009, "IMAGE PRIVATE HEADER"],
];
const DIRECTIONS: readonly (readonly Private[])[] = [
  [[0x0019100e, "SIEMENS"]],
  [0, 1, 2].map((n) => [0x200510b0 + n, "PHILIPS"] as const),
  [0, 1, 2].map((n) => [0x001910bb + n, "GEMS"] as const),
  [[0x00651037, "IMAGE PRIVATE HEADER"]],
];

/** How one image is weighted; see the attributes of the class in Python. */
export interface Weighting {
  readonly bValue: number | null;
  readonly isotropic: boolean;
  readonly directed: boolean;
  readonly declared: boolean;
  readonly kind: readonly string[];
  readonly notUsed: string;
}

/** What a data set, and the functional groups of one of its frames, say of the weighting. */
export function weightingOf(dataset: Dataset, groups: readonly Dataset[]): Weighting {
  const frameType = groups.map((group) => group.first("MRImageFrameTypeSequence")).find((item) => item !== null) ?? dataset;
  const stated = kindOf(frameType, "FrameType");
  const kind = stated.length ? stated : kindOf(dataset, "ImageType");
  const words = new Set([...kind, ...kind.flatMap((word) => word.split("_"))]);
  const component = firstText([frameType, dataset], "ComplexImageComponent");
  const contrast = firstText([frameType, dataset], "AcquisitionContrast");
  const places = groups.map((group) => group.first("MRDiffusionSequence") ?? group);
  const directionality = firstText(places, "DiffusionDirectionality");
  const named = SEQUENCE_NAME_B.exec(dataset.text("SequenceName"));
  let notUsed = "";
  if (meet(words, COMPUTED)) notUsed = "computed maps";
  else if (meet(words, NO_SLICES)) notUsed = "localisers and screen saves";
  else if (kind.slice(2).some((word) => COMPLEX.has(word)) || COMPLEX.has(component)) notUsed = "phase, real or imaginary images";
  return {
    bValue: bValueOf(dataset, groups, places, named),
    isotropic: meet(words, TRACE) || directionality === "ISOTROPIC" || isPhilipsIsotropic(dataset),
    directed: isDirected(dataset, places),
    declared: WEIGHTED.has(directionality) || named !== null || contrast === "DIFFUSION" || words.has("DIFFUSION"),
    kind,
    notUsed,
  };
}

export const kindOf = (dataset: Dataset, name: Keyword): string[] => dataset.texts(name).map((word) => word.toUpperCase());

/** Words of a description, in capitals: they break ties and decide nothing else. */
export const descriptionWords = (text: string): Set<string> => new Set(text.toUpperCase().split(/[^A-Z0-9]+/).filter(Boolean));

export const meet = (a: Iterable<string>, b: ReadonlySet<string>): boolean => [...a].some((word) => b.has(word));

/** The first numbers of an element in some data sets; empty where there are none. */
export function firstNumbers(places: readonly Dataset[], name: Keyword): number[] {
  for (const place of places) {
    const numbers = place.numbers(name);
    if (numbers.length) return numbers;
  }
  return [];
}

function firstText(places: readonly Dataset[], name: Keyword): string {
  return places.map((place) => place.text(name)).find((text) => text !== "")?.toUpperCase() ?? "";
}

function bValueOf(dataset: Dataset, groups: readonly Dataset[], places: readonly Dataset[], named: RegExpExecArray | null): number | null {
  const stated = firstNumbers(places, "DiffusionBValue");
  if (stated.length) return stated[0];
  for (const place of [...groups, dataset])
    for (const element of B_VALUES) {
      const numbers = privateNumbers(place, element);
      if (numbers.length) return element[1] === "GEMS" ? numbers[0] % GE_OFFSET : numbers[0];
    }
  if (named) return Number(named[1]);
  // Older Siemens mosaics have it in their CSA header alone.
  const mosaic = dataset.has(0x00291010) && kindOf(dataset, "ImageType").includes("MOSAIC");
  return mosaic ? (siemensCsa(dataset, "B_value")[0] ?? null) : null;
}

/** Values of a maker's element; empty where it is not there or another maker's name stands on its block. */
function privateNumbers(place: Dataset, [tag, maker]: Private): number[] {
  const bytes = place.bytes(tag);
  if (!bytes) return [];
  const owner = tag - (tag % 0x10000) + ((tag % 0x10000) >> 8);
  if (place.has(owner) && !place.text(owner).toUpperCase().includes(maker)) return [];
  try {
    const vr = place.vr(tag);
    return vr === "" || vr === "UN" || vr === "OB" ? untyped(bytes) : place.numbers(tag);
  } catch {
    return [];
  }
}

/** Numbers whose type is not known to the file. */
function untyped(bytes: Uint8Array): number[] {
  const text = String.fromCharCode(...bytes.subarray(0, 256)).replaceAll("\0", " ").trim();
  if (/^[-+0-9.eE\\ ]+$/.test(text)) {
    const numbers = text.split("\\").map(Number);
    return numbers.some(Number.isNaN) ? [] : numbers;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = { 4: 4, 8: 8, 12: 4, 24: 8 }[bytes.length];
  if (!size) return [];
  return Array.from({ length: bytes.length / size }, (_, at) => (size === 4 ? view.getFloat32(4 * at, true) : view.getFloat64(8 * at, true)));
}

/** Diffusion Direction of Philips' classic objects: P, M, S, O, or I for the isotropic image. */
function isPhilipsIsotropic(dataset: Dataset): boolean {
  return (
    dataset.has(0x20011004) &&
    dataset.text(0x20010010).toUpperCase().includes("PHILIPS") &&
    ["I", "ISOTROPIC"].includes(dataset.text(0x20011004).toUpperCase())
  );
}

function isDirected(dataset: Dataset, places: readonly Dataset[]): boolean {
  const sequences = places.map((place) => place.first("DiffusionGradientDirectionSequence") ?? place);
  const stated = firstNumbers([...sequences, dataset], "DiffusionGradientOrientation");
  const numbers = stated.length
    ? stated
    : (DIRECTIONS.map((elements) => elements.flatMap((element) => privateNumbers(dataset, element))).find((one) => one.length) ?? []);
  return numbers.some((number) => Math.abs(number) > 1e-6);
}
