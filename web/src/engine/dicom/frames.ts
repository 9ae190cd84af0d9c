/** One image of a DICOM object, classic, enhanced or a mosaic (`fvv.io.dicom.frames`). */

import { FvvError } from "../data.js";
import { siemensCsa } from "./csa.js";
import { damage, type Dataset, isPlain, type Keyword } from "./dataset.js";
import type { DicomFile } from "./find.js";
import { firstNumbers, kindOf, type Weighting, weightingOf } from "./weighting.js";

const MAKER = "fvv";
export const OURS = "results of an earlier run";
const MAX_EDGE = 4096;
const MAX_FRAMES = 50_000;
const MOST_TILES = 400;
const UIH_SLICES = 0x00651051;
const IMAGES = "1.2.840.10008.5.1.4.1.1.";
const MR_IMAGES = new Set([`${IMAGES}4`, `${IMAGES}4.1`, `${IMAGES}4.4`]);
const SECONDARY_CAPTURE = `${IMAGES}7`;

export type Vector = readonly number[];
interface Tile {
  readonly position: Vector;
  readonly corner: readonly [number, number];
  readonly shape: readonly [number, number];
}

/** One slice; see the attributes of the class in Python. */
export interface Frame {
  readonly file: DicomFile;
  readonly index: number;
  readonly sop: string;
  /** PatientID and its issuer; name and date of birth where there is no number. */
  readonly person: string;
  readonly born: string;
  readonly scanner: readonly [string, string];
  /** AcquisitionNumber and InstanceNumber; null where the latter is not stated. */
  readonly numbers: string | null;
  readonly study: string;
  readonly series: string;
  readonly studyTime: string;
  readonly frameOfReference: string;
  readonly seriesNumber: number;
  readonly description: string;
  readonly protocol: string;
  readonly weighting: Weighting;
  /** EchoTime, RepetitionTime, InversionTime, ms. */
  readonly timing: readonly (number | null)[];
  /** LPS mm. */
  readonly position: Vector;
  readonly orientation: Vector;
  /** Between rows, between columns, mm. */
  readonly spacing: Vector;
  readonly statedStep: number | null;
  /** Rows, columns. */
  readonly shape: readonly [number, number];
  /** First row and column in a mosaic; null elsewhere. */
  readonly corner: readonly [number, number] | null;
}

export const norm = (v: Vector): number => Math.hypot(...v);
export const dot = (a: Vector, b: Vector): number => a.reduce((total, one, at) => total + one * b[at], 0);
export const minus = (a: Vector, b: Vector): number[] => a.map((one, at) => one - b[at]);
export const cross = (a: Vector, b: Vector): number[] => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/** Distance of another slice from the scanner's origin along this one's normal, mm. */
export function along(frame: Frame, other: Frame): number {
  const across = cross(frame.orientation.slice(0, 3), frame.orientation.slice(3));
  const length = norm(across);
  return dot(across.map((one) => one / length), other.position);
}

/** The slices of one object that lie in space, and why there are none or fewer ("" where none is left out). */
export function framesOf(file: DicomFile, dataset: Dataset): { frames: Frame[]; reason: string } {
  const reason = noSlice(dataset);
  if (reason) return { frames: [], reason };
  const perFrame = dataset.items("PerFrameFunctionalGroupsSequence");
  let found: (Frame | null)[];
  if (perFrame) {
    if (perFrame.length > MAX_FRAMES) throw new FvvError(`holds over ${MAX_FRAMES} frames`);
    const shared = dataset.first("SharedFunctionalGroupsSequence");
    found = perFrame.map((groups, n) => frameOf(file, n, dataset, shared ? [groups, shared] : [groups], null));
  } else if (dataset.has(UIH_SLICES) || kindOf(dataset, "ImageType").some((word) => word === "MOSAIC" || word === "GRID")) {
    const places = dataset.has(UIH_SLICES) ? uihPlaces(dataset) : siemensPlaces(dataset);
    const shape = tileShape(dataset, places.length);
    if (!shape) return { frames: [], reason: "mosaics without slice positions in the header" };
    const edge = Math.ceil(Math.sqrt(places.length));
    found = places.map((position, n) => {
      const corner = [Math.floor(n / edge) * shape[0], (n % edge) * shape[1]] as const;
      return frameOf(file, n, dataset, [dataset], { position, corner, shape });
    });
  } else found = [frameOf(file, 0, dataset, [dataset], null)];
  const frames = found.filter((frame) => frame !== null);
  return { frames, reason: frames.length === found.length ? "" : "images without a position in space" };
}

/** (row, column) values of a frame with its rescale slope and intercept. */
export function pixelsOf(dataset: Dataset, frame: Frame): Float64Array {
  const refuse = (why: string): never => {
    throw new FvvError(`${frame.file.name}: its pixels cannot be decoded: ${why}`, "use `fvv predict`, or decompress it: dcmdjpeg, gdcmconv --raw");
  };
  if (!isPlain(dataset.transferSyntax)) return refuse(`they are compressed (transfer syntax ${dataset.transferSyntax})`);
  const bytes = dataset.bytes("PixelData");
  if (!bytes) return refuse("there are none");
  const perFrame = dataset.items("PerFrameFunctionalGroupsSequence");
  const ofObject = [wholeNumber(dataset, "Rows"), wholeNumber(dataset, "Columns")] as const;
  const shape: readonly [number, number] = [frame.shape[0], frame.shape[1]];
  const several = wholeNumber(dataset, "NumberOfFrames", 1);
  if (!frame.corner && (ofObject[0] !== shape[0] || ofObject[1] !== shape[1] || (!perFrame && several > 1)))
    throw new FvvError(`${frame.file.name}: holds pixels of shape (${several}, ${ofObject.join(", ")}), expected (${shape.join(", ")})`);
  const allocated = wholeNumber(dataset, "BitsAllocated");
  const stored = wholeNumber(dataset, "BitsStored", allocated);
  const signed = wholeNumber(dataset, "PixelRepresentation", 0) === 1;
  if (![8, 16, 32].includes(allocated) || stored < 1 || stored > allocated) return refuse(`${stored} of ${allocated} bits`);
  const size = allocated / 8;
  const start = (perFrame ? frame.index : 0) * ofObject[0] * ofObject[1] * size;
  if (bytes.length < start + ofObject[0] * ofObject[1] * size) return refuse("the file holds fewer");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const unused = 32 - stored;
  const groups = perFrame ? [perFrame[frame.index], dataset.first("SharedFunctionalGroupsSequence")] : [dataset];
  const where = groups.filter((group) => group !== null).map((group) => group.first("PixelValueTransformationSequence") ?? group);
  const slope = firstNumbers(where, "RescaleSlope")[0] ?? 1;
  const intercept = firstNumbers(where, "RescaleIntercept")[0] ?? 0;
  const [row, column] = frame.corner ?? [0, 0];
  const values = new Float64Array(shape[0] * shape[1]);
  for (let r = 0, n = 0; r < shape[0]; r++)
    for (let c = 0; c < shape[1]; c++, n++) {
      const at = start + ((row + r) * ofObject[1] + column + c) * size;
      const raw = size === 2 ? view.getUint16(at, true) : size === 1 ? view.getUint8(at) : view.getUint32(at, true);
      values[n] = (signed ? (raw << unused) >> unused : (raw << unused) >>> unused) * slope + intercept;
    }
  return values;
}

function noSlice(dataset: Dataset): string {
  if (dataset.text("Manufacturer") === MAKER) return OURS;
  const modality = dataset.has("Modality") ? dataset.text("Modality") : null;
  const storage = dataset.text("SOPClassUID") || dataset.mediaStorage;
  if (!dataset.has("Rows") && (MR_IMAGES.has(storage) || (modality === null && storage.startsWith(IMAGES))))
    throw damage("it is cut off before its type and size are stated");
  const isMr = modality === "MR" || (modality === null && MR_IMAGES.has(storage));
  if (!isMr || !dataset.has("Rows") || !dataset.has("Columns")) return "objects that are not MR images";
  if (dataset.text("SOPClassUID").startsWith(SECONDARY_CAPTURE)) return "localisers and screen saves";
  if (wholeNumber(dataset, "SamplesPerPixel", 1) !== 1) return "images in colour";
  const [rows, columns] = [wholeNumber(dataset, "Rows"), wholeNumber(dataset, "Columns")];
  return rows >= 1 && rows <= MAX_EDGE && columns >= 1 && columns <= MAX_EDGE ? "" : `images over ${MAX_EDGE} pixels wide`;
}

const wholeNumber = (dataset: Dataset, name: Keyword, otherwise = 0): number => Math.trunc(dataset.number(name) || otherwise);

function frameOf(file: DicomFile, index: number, dataset: Dataset, groups: readonly Dataset[], tile: Tile | null): Frame | null {
  const position = tile?.position ?? vector(groups, "PlanePositionSequence", "ImagePositionPatient", 3);
  const orientation = vector(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6);
  const spacing = vector(groups, "PixelMeasuresSequence", "PixelSpacing", 2);
  if (!position.length || !orientation.length || !spacing.length || Math.min(...spacing) <= 0 || !isAPlane(orientation)) return null;
  const instance = dataset.text("InstanceNumber");
  return {
    file,
    index,
    sop: dataset.text("SOPInstanceUID"),
    person: personOf(dataset),
    born: dataset.text("PatientBirthDate"),
    scanner: [dataset.text("Manufacturer").toLowerCase().split(/\s+/)[0], dataset.text("DeviceSerialNumber")],
    numbers: instance ? `${dataset.text("AcquisitionNumber")}\n${instance}` : null,
    study: dataset.text("StudyInstanceUID"),
    series: dataset.text("SeriesInstanceUID"),
    studyTime: `${dataset.text("StudyDate")} ${dataset.text("StudyTime")}`,
    frameOfReference: dataset.text("FrameOfReferenceUID"),
    seriesNumber: wholeNumber(dataset, "SeriesNumber"),
    description: dataset.text("SeriesDescription"),
    protocol: dataset.text("ProtocolName"),
    weighting: weightingOf(dataset, groups),
    timing: (["EchoTime", "RepetitionTime", "InversionTime"] as const).map((name) => timeOf(dataset, groups, name)),
    position,
    orientation,
    spacing,
    statedStep: vector(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)[0] ?? null,
    shape: tile?.shape ?? [wholeNumber(dataset, "Rows"), wholeNumber(dataset, "Columns")],
    corner: tile?.corner ?? null,
  };
}

function personOf(dataset: Dataset): string {
  const number = dataset.text("PatientID");
  if (number) return [number, dataset.text("IssuerOfPatientID")].join("\n");
  return ["", dataset.text("PatientName").replace(/\^+$/, "").toLowerCase(), dataset.text("PatientBirthDate")].join("\n");
}

/** Whether row and column are unit vectors at a right angle (within a degree). */
function isAPlane(orientation: Vector): boolean {
  const [row, column] = [orientation.slice(0, 3), orientation.slice(3)];
  const unit = [row, column].every((one) => Math.abs(norm(one) - 1) <= 0.02 + 1e-5);
  return unit && Math.abs(dot(row, column)) < 0.02;
}

function timeOf(dataset: Dataset, groups: readonly Dataset[], name: "EchoTime" | "RepetitionTime" | "InversionTime"): number | null {
  const echoes = groups.map((group) => group.first("MREchoSequence")).filter((item) => item !== null);
  const timing = groups.map((group) => group.first("MRTimingAndRelatedParametersSequence")).filter((item) => item !== null);
  const effective = name === "EchoTime" ? firstNumbers(echoes, "EffectiveEchoTime") : [];
  return effective[0] ?? firstNumbers([...timing, dataset], name)[0] ?? null;
}

/** Finite numbers of an element; empty where it is not there or holds something else. */
function vector(groups: readonly Dataset[], sequence: Keyword, name: Keyword, count: number): number[] {
  const numbers = firstNumbers(groups.map((group) => group.first(sequence) ?? group), name);
  return numbers.length === count && numbers.every(Number.isFinite) ? numbers : [];
}

/** Rows and columns of each of n slices in one picture; null where they do not fit. */
function tileShape(dataset: Dataset, n: number): [number, number] | null {
  const edge = n >= 1 && n <= MOST_TILES ? Math.ceil(Math.sqrt(n)) : 0;
  const [rows, columns] = [wholeNumber(dataset, "Rows"), wholeNumber(dataset, "Columns")];
  return !edge || rows % edge || columns % edge ? null : [rows / edge, columns / edge];
}

function uihPlaces(dataset: Dataset): Vector[] {
  const positions = (dataset.items(UIH_SLICES) ?? []).map((item) => item.numbers("ImagePositionPatient"));
  return positions.every((position) => position.length === 3) ? positions : [];
}

/** By number of images and slice normal in the CSA header (nibabel.org/nibabel/dicom/dicom_mosaic.html). */
function siemensPlaces(dataset: Dataset): Vector[] {
  const [number, normal] = [siemensCsa(dataset, "NumberOfImagesInMosaic"), siemensCsa(dataset, "SliceNormalVector")];
  const [orientation, spacing] = [dataset.numbers("ImageOrientationPatient"), dataset.numbers("PixelSpacing")];
  const [step, corner] = [dataset.number("SpacingBetweenSlices"), dataset.numbers("ImagePositionPatient")];
  if (!number[0] || normal.length !== 3 || orientation.length !== 6 || spacing.length !== 2 || !step || corner.length !== 3) return [];
  const shape = tileShape(dataset, number[0]);
  if (!shape) return [];
  const rows = (wholeNumber(dataset, "Rows") - shape[0]) / 2;
  const columns = (wholeNumber(dataset, "Columns") - shape[1]) / 2;
  const first = corner.map((one, at) => one + (orientation[3 + at] * spacing[0] * rows + orientation[at] * spacing[1] * columns));
  return Array.from({ length: number[0] }, (_, k) => first.map((one, at) => one + k * (normal[at] * step)));
}
