/**
 * A DICOM data set in little endian, explicit or implicit (PS3.5, 7): what the reader asks of pydicom in Python. Elements
 * are found once and decoded when they are asked for.
 */

import { FvvError } from "../data.js";

/** Tag and value representation (PS3.6) of every element that is read here. */
const KEYWORDS = {
  SpecificCharacterSet: [0x00080005, "CS"],
  ImageType: [0x00080008, "CS"],
  SOPClassUID: [0x00080016, "UI"],
  SOPInstanceUID: [0x00080018, "UI"],
  StudyDate: [0x00080020, "DA"],
  StudyTime: [0x00080030, "TM"],
  Modality: [0x00080060, "CS"],
  Manufacturer: [0x00080070, "LO"],
  SeriesDescription: [0x0008103e, "LO"],
  ComplexImageComponent: [0x00089208, "CS"],
  AcquisitionContrast: [0x00089209, "CS"],
  FrameType: [0x00089007, "CS"],
  PatientName: [0x00100010, "PN"],
  PatientID: [0x00100020, "LO"],
  IssuerOfPatientID: [0x00100021, "LO"],
  PatientBirthDate: [0x00100030, "DA"],
  SequenceName: [0x00180024, "SH"],
  RepetitionTime: [0x00180080, "DS"],
  EchoTime: [0x00180081, "DS"],
  InversionTime: [0x00180082, "DS"],
  SpacingBetweenSlices: [0x00180088, "DS"],
  DeviceSerialNumber: [0x00181000, "LO"],
  ProtocolName: [0x00181030, "LO"],
  DiffusionDirectionality: [0x00189075, "CS"],
  DiffusionGradientDirectionSequence: [0x00189076, "SQ"],
  EffectiveEchoTime: [0x00189082, "FD"],
  DiffusionBValue: [0x00189087, "FD"],
  DiffusionGradientOrientation: [0x00189089, "FD"],
  MRTimingAndRelatedParametersSequence: [0x00189112, "SQ"],
  MREchoSequence: [0x00189114, "SQ"],
  MRDiffusionSequence: [0x00189117, "SQ"],
  MRImageFrameTypeSequence: [0x00189226, "SQ"],
  StudyInstanceUID: [0x0020000d, "UI"],
  SeriesInstanceUID: [0x0020000e, "UI"],
  SeriesNumber: [0x00200011, "IS"],
  AcquisitionNumber: [0x00200012, "IS"],
  InstanceNumber: [0x00200013, "IS"],
  ImagePositionPatient: [0x00200032, "DS"],
  ImageOrientationPatient: [0x00200037, "DS"],
  FrameOfReferenceUID: [0x00200052, "UI"],
  PlanePositionSequence: [0x00209113, "SQ"],
  PlaneOrientationSequence: [0x00209116, "SQ"],
  SamplesPerPixel: [0x00280002, "US"],
  NumberOfFrames: [0x00280008, "IS"],
  Rows: [0x00280010, "US"],
  Columns: [0x00280011, "US"],
  PixelSpacing: [0x00280030, "DS"],
  BitsAllocated: [0x00280100, "US"],
  BitsStored: [0x00280101, "US"],
  PixelRepresentation: [0x00280103, "US"],
  RescaleIntercept: [0x00281052, "DS"],
  RescaleSlope: [0x00281053, "DS"],
  PixelMeasuresSequence: [0x00289110, "SQ"],
  PixelValueTransformationSequence: [0x00289145, "SQ"],
  SharedFunctionalGroupsSequence: [0x52009229, "SQ"],
  PerFrameFunctionalGroupsSequence: [0x52009230, "SQ"],
  PixelData: [0x7fe00010, "OW"],
} as const;
export type Keyword = keyof typeof KEYWORDS;

const VR_OF_TAG = new Map<number, string>(Object.values(KEYWORDS).map(([tag, vr]) => [tag, vr]));
/** With a length of four bytes in explicit encoding. */
const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const TEXT = new Set(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]);
const BINARY: Readonly<Record<string, { bytes: number; read: (view: DataView, at: number) => number }>> = {
  FD: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
  FL: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  SL: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  SS: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  UL: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
  US: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
};
/** TextDecoder's name of a character set (PS3.3, C.12.1.1.2); of the others the Latin letters are read. */
const CHARACTERS: Readonly<Record<string, string>> = {
  "ISO_IR 192": "utf-8", "ISO_IR 13": "shift_jis", "ISO_IR 101": "iso-8859-2", "ISO_IR 144": "iso-8859-5", GB18030: "gb18030", GBK: "gbk",
};
const UNDEFINED = 0xffffffff;
const [ITEM, END_OF_ITEM, END_OF_SEQUENCE] = [0xfffee000, 0xfffee00d, 0xfffee0dd];
const FIRST_PIXELS = 0x7fe00008;
const DEEPEST = 32;
const EXPLICIT_LITTLE = "1.2.840.10008.1.2.1";
const IMPLICIT_LITTLE = "1.2.840.10008.1.2";
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const DEFLATED = "1.2.840.10008.1.2.1.99";

interface Element {
  /** "" where neither the file nor the list above states it. */
  readonly vr: string;
  readonly bytes: Uint8Array;
  readonly items: readonly Dataset[] | null;
}

export class Dataset {
  constructor(
    private readonly elements: ReadonlyMap<number, Element>,
    readonly transferSyntax = "",
    readonly mediaStorage = "",
  ) {}

  has(name: Keyword | number): boolean {
    return this.elements.has(tagOf(name));
  }

  /** Bytes of a value as stored. */
  bytes(name: Keyword | number): Uint8Array | null {
    return this.elements.get(tagOf(name))?.bytes ?? null;
  }

  /** Its representation as the file states it. */
  vr(name: Keyword | number): string {
    return this.elements.get(tagOf(name))?.vr ?? "";
  }

  /** Without padding; "" where there is none. */
  text(name: Keyword | number): string {
    const found = this.elements.get(tagOf(name));
    if (!found) return "";
    if (!TEXT.has(found.vr) && found.vr !== "" && found.vr !== "UN") throw damage(`an element of type ${JSON.stringify(found.vr)}`);
    return this.letters(found.bytes).replace(/\0/g, " ").trim();
  }

  /** Of a value that may be several. */
  texts(name: Keyword | number): string[] {
    const text = this.text(name);
    return text ? text.split("\\").map((one) => one.trim()) : [];
  }

  /** Numbers; empty where there is no value. */
  numbers(name: Keyword | number): number[] {
    const found = this.elements.get(tagOf(name));
    if (!found) return [];
    const kind = BINARY[found.vr];
    if (!kind) return this.texts(name).map(numberOf);
    const view = new DataView(found.bytes.buffer, found.bytes.byteOffset, found.bytes.byteLength);
    return Array.from({ length: Math.floor(found.bytes.length / kind.bytes) }, (_, at) => kind.read(view, at * kind.bytes));
  }

  number(name: Keyword | number): number | null {
    return this.numbers(name)[0] ?? null;
  }

  /** Items of a sequence; null where there is no such sequence. */
  items(name: Keyword | number): readonly Dataset[] | null {
    return this.elements.get(tagOf(name))?.items ?? null;
  }

  first(name: Keyword): Dataset | null {
    return this.items(name)?.[0] ?? null;
  }

  private letters(bytes: Uint8Array): string {
    const stated = this.elements.get(KEYWORDS.SpecificCharacterSet[0])?.bytes;
    const name = stated ? latin(stated).split("\\")[0].trim() : "";
    return CHARACTERS[name] ? new TextDecoder(CHARACTERS[name]).decode(bytes) : latin(bytes);
  }
}

export const damage = (why: string): FvvError => new FvvError(`not readable as DICOM: ${why}`);

const tagOf = (name: Keyword | number): number => (typeof name === "number" ? name : KEYWORDS[name][0]);

function latin(bytes: Uint8Array): string {
  let text = "";
  for (const one of bytes) text += String.fromCharCode(one);
  return text;
}

function numberOf(text: string): number {
  const value = text === "" ? NaN : Number(text);
  if (Number.isNaN(value) && !/^[+-]?nan$/i.test(text)) throw damage(`${JSON.stringify(text.slice(0, 32))} is no number`);
  return value;
}

/** Whether a file that starts so is DICOM: by its mark, or by its first element where it has none (PS3.10, 7.1). */
export function startsDicom(start: Uint8Array): boolean {
  return hasMark(start) || lacksPreamble(start);
}

const hasMark = (start: Uint8Array): boolean => latin(start.subarray(128, 132)) === "DICM";

function lacksPreamble(start: Uint8Array): boolean {
  if (start.length < 132) return false;
  const [group, element] = [start[0] + 256 * start[1], start[2] + 256 * start[3]];
  if ((group !== 2 && group !== 8) || element > 0x18) return false;
  const explicit = isCapital(start[4]) && isCapital(start[5]);
  return explicit || new DataView(start.buffer, start.byteOffset).getUint32(4, true) <= 256;
}

const isCapital = (code: number): boolean => code >= 65 && code <= 90;

/** Read a file: its data set up to and with the pixels. Compressed pixels are refused when they are asked for. */
export function parseDicom(bytes: Uint8Array<ArrayBuffer>): Dataset {
  const walk = new Walk(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes);
  walk.at = hasMark(bytes) ? 132 : 0;
  const meta = walk.fileMeta();
  const syntax = meta.text(0x00020010);
  if (syntax === BIG_ENDIAN || syntax === DEFLATED)
    throw damage(`transfer syntax ${syntax} (${syntax === DEFLATED ? "deflated" : "big endian"}) is read by \`fvv predict\` alone`);
  const implicit = walk.isImplicit();
  const elements = walk.dataset(bytes.length, implicit, 0);
  return new Dataset(elements, syntax || (implicit ? IMPLICIT_LITTLE : EXPLICIT_LITTLE), meta.text(0x00020002));
}

/** Whether pixels of a transfer syntax are stored as they are. */
export const isPlain = (syntax: string): boolean => syntax === EXPLICIT_LITTLE || syntax === IMPLICIT_LITTLE;

class Walk {
  at = 0;

  constructor(
    private readonly view: DataView,
    private readonly bytes: Uint8Array,
  ) {}

  fileMeta(): Dataset {
    const elements = new Map<number, Element>();
    while (this.at + 8 <= this.bytes.length && this.view.getUint16(this.at, true) === 2) this.element(elements, this.bytes.length, false, 0);
    return new Dataset(elements);
  }

  /** Whether what follows has no types, by its first element: files exist whose transfer syntax says otherwise. */
  isImplicit(): boolean {
    return this.at + 6 > this.bytes.length || !(isCapital(this.bytes[this.at + 4]) && isCapital(this.bytes[this.at + 5]));
  }

  dataset(end: number, implicit: boolean, depth: number): Map<number, Element> {
    if (depth > DEEPEST) throw damage("its sequences lie too deep in one another");
    const elements = new Map<number, Element>();
    while (this.at < end && this.element(elements, end, implicit, depth));
    return elements;
  }

  /** Read one element; false at the end of an item, and after the pixels. */
  private element(into: Map<number, Element>, end: number, implicit: boolean, depth: number): boolean {
    const tag = this.tag(end);
    if (tag === END_OF_ITEM || tag === END_OF_SEQUENCE) {
      this.at += 4;
      return false;
    }
    const { vr, length } = this.typeAndLength(tag, implicit, end);
    if (tag >= FIRST_PIXELS && depth === 0) {
      into.set(tag, { vr, bytes: this.bytes.subarray(this.at, length === UNDEFINED ? end : this.at + length), items: null });
      return false;
    }
    if (length === UNDEFINED || vr === "SQ") {
      const stop = length === UNDEFINED ? end : this.at + length;
      if (stop > end) throw damage("a sequence ends before its length");
      into.set(tag, { vr, bytes: this.bytes.subarray(0, 0), items: this.items(stop, implicit || vr === "UN", depth + 1) });
      if (length !== UNDEFINED) this.at = stop;
      return true;
    }
    if (this.at + length > end) throw damage("it ends before an element does");
    into.set(tag, { vr, bytes: this.bytes.subarray(this.at, this.at + length), items: null });
    this.at += length;
    return true;
  }

  private items(end: number, implicit: boolean, depth: number): Dataset[] {
    const found: Dataset[] = [];
    while (this.at < end) {
      const tag = this.tag(end);
      if (this.at + 4 > end) throw damage("it ends within a sequence");
      const length = this.view.getUint32(this.at, true);
      this.at += 4;
      if (tag === END_OF_SEQUENCE) break;
      if (tag !== ITEM) throw damage("a sequence holds something other than items");
      const stop = length === UNDEFINED ? end : this.at + length;
      if (stop > end) throw damage("an item ends before its length");
      found.push(new Dataset(this.dataset(stop, implicit || (this.at < stop && this.isImplicit()), depth)));
      if (length !== UNDEFINED) this.at = stop;
    }
    return found;
  }

  private tag(end: number): number {
    if (this.at + 4 > end) throw damage("it ends before an element does");
    const tag = this.view.getUint16(this.at, true) * 0x10000 + this.view.getUint16(this.at + 2, true);
    this.at += 4;
    return tag;
  }

  private typeAndLength(tag: number, implicit: boolean, end: number): { vr: string; length: number } {
    if (this.at + 4 > end) throw damage("it ends before an element does");
    if (implicit) {
      this.at += 4;
      return { vr: VR_OF_TAG.get(tag) ?? "", length: this.view.getUint32(this.at - 4, true) };
    }
    const vr = String.fromCharCode(this.bytes[this.at], this.bytes[this.at + 1]);
    if (!LONG.has(vr)) {
      this.at += 4;
      return { vr, length: this.view.getUint16(this.at - 2, true) };
    }
    if (this.at + 8 > end) throw damage("it ends before an element does");
    this.at += 8;
    const known = vr === "UN" ? VR_OF_TAG.get(tag) : undefined; // An archive that did not know the element.
    return { vr: known && known !== "SQ" ? known : vr, length: this.view.getUint32(this.at - 4, true) };
  }
}
