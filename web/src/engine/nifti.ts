/** NIfTI files in and out (`fvv.io.nifti`, `fvv.io.case`): a file is checked before it is believed. */

import { type Image, type Mask, type Numbers, type Shape, sizeOf } from "./arrays.js";
import { type Affine, type Case, FvvError, type Volume } from "./data.js";
import { cornerDisplacementMm, planGrid, reorientedLike, sameGrid, spacing, volumeOf } from "./geometry.js";
import { b0FromAdc } from "./adc.js";
import { average, B0_TOLERANCE, b0Volumes, b1000Volumes, choiceNote, isB0, SHELL_GAP, type Shell, shells, TARGET_B } from "./protocol.js";
import { general } from "./format.js";

const MAX_EDGE = 1024;
export const MAX_VOXELS = 512 * 512 * 256;
const MAX_BYTES = 2 ** 32;
const SAME_VOXEL_SIZE = 0.01;

/** An image's file, and the text of its `.bval` file where there is one. */
export interface ImageFile {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly bval?: string;
}

/** What a header says, and where the voxels lie. */
export interface NiftiFile {
  readonly name: string;
  readonly view: DataView<ArrayBuffer>;
  readonly little: boolean;
  readonly version: 1 | 2;
  /** Of one volume; the fourth number counts volumes. */
  readonly shape: readonly [number, number, number, number];
  readonly datatype: DataType;
  readonly offset: number;
  readonly slope: number;
  readonly intercept: number;
  readonly affine: Affine;
}

const KINDS = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  256: Int8Array,
  512: Uint16Array,
  768: Uint32Array,
  1024: BigInt64Array,
  1280: BigUint64Array,
};
type DataType = keyof typeof KINDS;

/** What the user says of the files. */
export interface Told {
  /** The file of b0 is an ADC map, from which b0 is computed. */
  readonly adc?: boolean;
  /** Of b1000, s/mm^2, where no file states it. */
  readonly bValue?: number | null;
}

/** One examination from its two images; the file of b1000 may be the file of b0, with a `.bval` file. */
export async function readCase(examinationId: string, b0File: ImageFile, b1000File: ImageFile, told: Told = {}): Promise<Case> {
  const b1000Read = readWeighted(await openNifti(b1000File), b1000File.bval, TARGET_B);
  const b1000 = b1000Read.volume;
  const bValue = statedBValue(b1000File.name, b1000Read.bValue, told.bValue ?? null);
  planGrid(b1000); // Refuses proportions that would take gigabytes.
  const b0Read = readWeighted(await openNifti(b0File), b0File.bval, 0);
  if (!told.adc && b0Read.bValue !== null && !isB0(b0Read.bValue))
    throw new FvvError(
      `${b0File.name}: expected b0 (at most ${general(B0_TOLERANCE)} s/mm^2), the file states b = ${general(b0Read.bValue)}`,
      "choose another file, or correct the .bval file",
    );
  const { volume, notes } = ontoGrid(b0Read.volume, b1000, `${b0File.name}:`, told.adc ? b0File.name : "b0");
  const computed = told.adc ? computedB0(volume, b1000, b0File.name, bValue || TARGET_B) : null;
  return {
    examinationId,
    b0: computed?.b0 ?? volume,
    b1000,
    bValue,
    notes: [...(b1000Read.note ? [b1000Read.note] : []), ...notes, ...(computed ? [computed.note] : [])],
    warnings: [],
  };
}

function computedB0(adc: Volume, b1000: Volume, name: string, bValue: number): { b0: Volume; note: string } {
  try {
    const { image, unit } = b0FromAdc(b1000.image, adc.image, bValue);
    const note = `b0 computed from b1000 and ${name}, taken to be in ${unit}, at b = ${general(bValue)} s/mm^2`;
    return { b0: { image, affine: b1000.affine }, note };
  } catch (error) {
    throw error instanceof FvvError ? new FvvError(`${name}: ${error.message}`, error.hint) : error;
  }
}

/** The b-value of b1000, which the user may state where no file does. */
function statedBValue(name: string, byFile: number | null, byUser: number | null): number | null {
  if (byFile !== null && byUser !== null && Math.abs(byFile - byUser) > SHELL_GAP)
    throw new FvvError(
      `${name}: b = ${general(byUser)} s/mm^2 was asked for, the file states ${general(byFile)}`,
      "leave the b-value empty, or correct the .bval file",
    );
  return byFile ?? byUser;
}

/** b0 on b1000's grid, and notes; `where` begins the sentence that refuses it. */
export function ontoGrid(b0: Volume, b1000: Volume, where: string, name = "b0"): { volume: Volume; notes: string[] } {
  if (sameGrid(b0, b1000)) return { volume: b0, notes: [] };
  const turned = reorientedLike(b0, b1000);
  if (turned) return { volume: turned, notes: [`${name} brought into b1000's order of axes`] };
  const [from, to] = [b0.image.shape, b1000.image.shape].map((shape) => `(${shape.join(", ")})`);
  const apart =
    from === to
      ? `corners lie up to ${general(cornerDisplacementMm(b0, b1000), 3)} mm apart`
      : `shape ${from} against ${to}`;
  throw new FvvError(`${where} not on the grid of b1000: ${apart}`, "resample it onto b1000 with another tool, or use `fvv predict --resample-b0`");
}

/** Unpack and check a file. */
export async function openNifti(file: ImageFile): Promise<NiftiFile> {
  const packed = file.bytes.length > 2 && file.bytes[0] === 0x1f && file.bytes[1] === 0x8b;
  const bytes = packed ? await gunzip(file) : file.bytes;
  const refuse = (message: string, hint = ""): never => {
    throw new FvvError(`${file.name}: ${message}`, hint);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 348) refuse("not a readable NIfTI image: too short");
  const sizes = [view.getInt32(0, true), view.getInt32(0, false)];
  const little = sizes[0] === 348 || sizes[0] === 540;
  const version = sizes[little ? 0 : 1] === 540 ? 2 : 1;
  if (sizes[little ? 0 : 1] !== (version === 2 ? 540 : 348)) refuse("not a readable NIfTI image: of another kind");
  if (version === 2 && bytes.length < 540) refuse("not a readable NIfTI image: too short");
  const magicAt = version === 2 ? 4 : 344;
  const magic = String.fromCharCode(view.getUint8(magicAt), view.getUint8(magicAt + 1));
  if (magic === "ni") refuse("not a readable NIfTI image: a header whose voxels lie in another file");
  if (magic !== "n+") refuse("not a readable NIfTI image: of another kind");

  const header = version === 2 ? header2(view, little) : header1(view, little);
  const dims = Array.from({ length: Math.min(Math.max(header.dims[0], 0), 7) }, (_, at) => header.dims[at + 1]);
  while (dims.length > 3 && dims[dims.length - 1] === 1) dims.pop();
  if (dims.length < 3 || dims.length > 4) refuse(`expected a 3D image, got shape (${dims.join(", ")})`);
  if (Math.min(...dims) < 1) refuse(`the image is empty: shape (${dims.join(", ")})`);
  const datatype = header.datatype as DataType;
  const kind = KINDS[datatype];
  if (!kind) return refuse(`expected numbers, found NIfTI data type ${header.datatype}`);
  const voxels = dims[0] * dims[1] * dims[2];
  const volumes = dims[3] ?? 1;
  const declared = voxels * volumes * kind.BYTES_PER_ELEMENT;
  const claim = `the header claims ${declared} bytes (shape (${dims.join(", ")}))`;
  if (Math.max(dims[0], dims[1], dims[2]) > MAX_EDGE || voxels > MAX_VOXELS || declared > MAX_BYTES)
    refuse(`${claim}: over the largest image read here`);
  const offset = Math.max(header.offset, version === 2 ? 540 : 348);
  const end = offset + declared;
  if (!(bytes.length >= end)) refuse(`${claim}, the file holds less`);
  if (bytes.length >= end + dims[0] * dims[1] * kind.BYTES_PER_ELEMENT) refuse(`${claim}, the file holds more: one of them is wrong`);

  const affine = bestAffine(header, dims);
  refuseDoubtfulVoxels(header, spacing(affine), refuse);
  const scaled = Number.isFinite(header.slope) && header.slope !== 0;
  if (scaled && !Number.isFinite(header.intercept)) refuse("not a readable NIfTI image: the intercept is not finite");
  return {
    name: file.name,
    view,
    little,
    version,
    shape: [dims[0], dims[1], dims[2], volumes],
    datatype,
    offset,
    slope: scaled ? header.slope : 1,
    intercept: scaled ? header.intercept : 0,
    affine,
  };
}

async function gunzip(file: ImageFile): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const stream = new Blob([file.bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new FvvError(`${file.name}: cannot be read, it may be damaged or cut short: it does not unpack`, "copy or convert it again");
  }
}

interface Header {
  readonly dims: readonly number[];
  readonly datatype: number;
  readonly pixdim: readonly number[];
  readonly offset: number;
  readonly slope: number;
  readonly intercept: number;
  readonly qformCode: number;
  readonly sformCode: number;
  readonly quaternion: readonly number[];
  readonly qoffset: readonly number[];
  readonly srow: Affine;
}

function header1(view: DataView, little: boolean): Header {
  const f32 = (at: number): number => view.getFloat32(at, little);
  const i16 = (at: number): number => view.getInt16(at, little);
  const many = (n: number, start: number): number[] => Array.from({ length: n }, (_, at) => f32(start + 4 * at));
  return {
    dims: Array.from({ length: 8 }, (_, at) => i16(40 + 2 * at)),
    datatype: i16(70),
    pixdim: many(8, 76),
    offset: f32(108),
    slope: f32(112),
    intercept: f32(116),
    qformCode: i16(252),
    sformCode: i16(254),
    quaternion: many(3, 256),
    qoffset: many(3, 268),
    srow: [many(4, 280), many(4, 296), many(4, 312)],
  };
}

function header2(view: DataView, little: boolean): Header {
  const f64 = (at: number): number => view.getFloat64(at, little);
  const i64 = (at: number): number => Number(view.getBigInt64(at, little));
  const many = (n: number, start: number): number[] => Array.from({ length: n }, (_, at) => f64(start + 8 * at));
  return {
    dims: Array.from({ length: 8 }, (_, at) => i64(16 + 8 * at)),
    datatype: view.getInt16(12, little),
    pixdim: many(8, 104),
    offset: i64(168),
    slope: f64(176),
    intercept: f64(184),
    qformCode: view.getInt32(344, little),
    sformCode: view.getInt32(348, little),
    quaternion: many(3, 352),
    qoffset: many(3, 376),
    srow: [many(4, 400), many(4, 432), many(4, 464)],
  };
}

/** nibabel's choice: s-form, else q-form, else voxel sizes about the middle with x to the left. */
function bestAffine(header: Header, dims: readonly number[]): Affine {
  const last = [0, 0, 0, 1];
  if (header.sformCode > 0) return [...header.srow, last];
  const edges = header.pixdim.slice(1, 4).map(Math.abs);
  if (header.qformCode > 0) {
    const [b, c, d] = header.quaternion;
    const rest = 1 - (b * b + c * c + d * d);
    const a = rest > 0 ? Math.sqrt(rest) : 0;
    const face = header.pixdim[0] === -1 ? -1 : 1;
    const turn = [
      [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
      [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
      [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    const norm = a * a + b * b + c * c + d * d;
    const rows = turn.map((row, at) => [
      ...row.map((one, axis) => (one / norm) * edges[axis] * (axis === 2 ? face : 1)),
      header.qoffset[at],
    ]);
    return [...rows, last];
  }
  const signs = [-1, 1, 1];
  const rows = [0, 1, 2].map((row) => [
    ...[0, 1, 2].map((column) => (row === column ? signs[row] * edges[row] : 0)),
    -signs[row] * edges[row] * ((dims[row] - 1) / 2),
  ]);
  return [...rows, last];
}

function refuseDoubtfulVoxels(header: Header, used: readonly number[], refuse: (message: string, hint?: string) => never): void {
  const sizes = header.pixdim.slice(1, 4);
  const positive = sizes.every((size) => size > 0);
  const named = (values: readonly number[]): string => `[${values.map((value) => Math.round(value * 1000) / 1000).join(", ")}] mm`;
  if (header.sformCode <= 0 && !positive) refuse(`voxel size ${named(sizes)}: it must be positive`);
  if (positive && sizes.some((size, axis) => Math.abs(size - used[axis]) > 1e-8 + SAME_VOXEL_SIZE * used[axis]))
    refuse(
      `voxel size ${named(sizes)} (pixdim), but ${named(used)} by the s-form`,
      "correct the header: one of them is wrong",
    );
}

/** The one image that is meant, its b-value, and a note on the choice. */
function readWeighted(file: NiftiFile, bval: string | undefined, target: number): { volume: Volume; bValue: number | null; note: string } {
  const n = file.shape[3];
  const bValues = bval === undefined ? [] : parseBvals(bval, file.name);
  if (bValues.length && bValues.length !== n)
    throw new FvvError(
      `${file.name}: ${n} volume${n > 1 ? "s" : ""} but ${bValues.length} b-values in the .bval file beside it`,
      "give each volume its b-value, or remove the .bval file",
    );
  const volume = (data: Float64Array): Volume => {
    try {
      return volumeOf({ data, shape: [file.shape[0], file.shape[1], file.shape[2]] }, file.affine);
    } catch (error) {
      throw error instanceof FvvError ? new FvvError(`${file.name}: ${error.message}`, error.hint) : error;
    }
  };
  if (n === 1) return { volume: volume(voxels(file, 0)), bValue: bValues[0] ?? null, note: "" };
  if (!bValues.length)
    throw new FvvError(`${file.name}: 4D with ${n} volumes, one was expected`, "give the .bval file, too");
  const shell: Shell | null = target === 0 ? b0Volumes(bValues) : b1000Volumes(bValues);
  if (!shell) {
    const found = [...new Set(bValues)].sort((a, b) => a - b).join(", ");
    throw new FvvError(`${file.name}: no volume near b = ${target} s/mm^2; b-values are ${found}`);
  }
  const data = average(shell.indices.map((index) => voxels(file, index)), shell.bValue);
  const note = target === TARGET_B ? choiceNote(shell.bValue, shells(bValues).map((one) => one.bValue)) : "";
  return { volume: volume(data), bValue: shell.bValue, note: note && `${file.name}: ${note}` };
}

function parseBvals(text: string, name: string): number[] {
  const values = text.split(/\s+/).filter(Boolean).map(Number);
  if (values.some(Number.isNaN)) throw new FvvError(`${name}: its .bval file holds something other than numbers`);
  return values;
}

/** A volume as float64, in the engine's order. */
function voxels(file: NiftiFile, index: number): Float64Array {
  const [ni, nj, nk] = file.shape;
  const data = new Float64Array(ni * nj * nk);
  const scaled = file.slope !== 1 || file.intercept !== 0;
  const stored = storedNumbers(file, index, data.length);
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++)
      for (let k = 0; k < nk; k++, at++) {
        const value = Number(stored[(k * nj + j) * ni + i]);
        data[at] = scaled ? value * file.slope + file.intercept : value;
      }
  return data;
}

/** The numbers of a volume as the file stores them; WebAssembly, and so every machine of this page, is little-endian. */
function storedNumbers({ view, offset, datatype, little }: NiftiFile, index: number, n: number): ArrayLike<number | bigint> {
  const size = KINDS[datatype].BYTES_PER_ELEMENT;
  const start = view.byteOffset + offset + index * n * size;
  const bytes = new Uint8Array(view.buffer.slice(start, start + n * size));
  if (!little) for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
  return new KINDS[datatype](bytes.buffer);
}

/** The grid of images that come from no NIfTI file, for results on it. */
export async function gridFile(shape: Shape, affine: Affine): Promise<NiftiFile> {
  const view = new DataView(new ArrayBuffer(352 + sizeOf(shape)));
  const floats = (start: number, values: readonly number[]): void => values.forEach((one, at) => view.setFloat32(start + 4 * at, one, true));
  view.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((one, at) => view.setInt16(40 + 2 * at, one, true));
  view.setInt16(70, 2, true);
  floats(76, [1, ...spacing(affine), 1, 1, 1, 1]);
  floats(108, [352]);
  view.setInt16(254, 2, true); // Aligned with the scanner.
  floats(280, affine.slice(0, 3).flat());
  [0x6e, 0x2b, 0x31].forEach((one, at) => view.setUint8(344 + at, one)); // "n+1"
  return openNifti({ name: "grid", bytes: new Uint8Array(view.buffer) });
}

/** uint8 volumes as a NIfTI-1 file on the grid of `like`, whose q-form and s-form are copied. */
export function niftiOf(volumes: readonly Mask[], like: NiftiFile): Uint8Array<ArrayBuffer> {
  const view = emptyNifti(volumes[0].shape, volumes.length, { code: 2, bytes: 1 }, like);
  volumes.forEach(({ data, shape }, index) => inFileOrder(data, shape, new Uint8Array(view.buffer, 352 + index * data.length)));
  return new Uint8Array(view.buffer);
}

/** An image as float32 in a NIfTI-1 file, for the viewer; `range` is what it shows as black and as white. */
export function floatNiftiOf({ data, shape }: Image, like: NiftiFile, range: readonly [number, number] | null): Uint8Array<ArrayBuffer> {
  const view = emptyNifti(shape, 1, { code: 16, bytes: 4 }, like);
  if (range) [range[1], range[0]].forEach((one, at) => view.setFloat32(124 + 4 * at, one, true));
  inFileOrder(data, shape, new Float32Array(view.buffer, 352));
  return new Uint8Array(view.buffer);
}

function emptyNifti(shape: Shape, n: number, kind: { code: number; bytes: number }, like: NiftiFile): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(352 + shape[0] * shape[1] * shape[2] * n * kind.bytes));
  const source = like.version === 1 ? header1(like.view, like.little) : header2(like.view, like.little);
  const floats = (start: number, values: readonly number[]): void =>
    values.forEach((one, at) => view.setFloat32(start + 4 * at, one, true));
  view.setInt32(0, 348, true);
  [n > 1 ? 4 : 3, ...shape, n, 1, 1, 1].forEach((one, at) => view.setInt16(40 + 2 * at, one, true));
  view.setInt16(70, kind.code, true);
  view.setInt16(72, 8 * kind.bytes, true);
  floats(76, [source.pixdim[0] === -1 ? -1 : 1, ...spacing(like.affine), 1, 1, 1, 1]);
  floats(108, [352, 1, 0]);
  view.setUint8(123, 2); // mm
  view.setInt16(252, source.qformCode, true);
  view.setInt16(254, source.sformCode, true);
  floats(256, [...source.quaternion, ...source.qoffset, ...source.srow.flat()]);
  [0x6e, 0x2b, 0x31].forEach((one, at) => view.setUint8(344 + at, one)); // "n+1"
  return view;
}

/** In a file the first axis runs fastest. */
function inFileOrder(data: Numbers, [ni, nj, nk]: Shape, into: Numbers): void {
  for (let i = 0, at = 0; i < ni; i++)
    for (let j = 0; j < nj; j++) for (let k = 0; k < nk; k++, at++) into[(k * nj + j) * ni + i] = data[at];
}

export async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
