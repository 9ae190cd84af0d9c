/** DICOM files among dropped files and in zip files (`fvv.io.dicom.find`). */

import { FvvError } from "../data.js";
import { startsDicom } from "./dataset.js";
import { plain } from "./plain.js";
import { membersOf, type Member } from "./zip.js";

const START = 132;
const MAX_FILE = 2 ** 30;
/** Bytes of a zip file in a zip file that is looked into. */
const MAX_INNER = 2 ** 28;

/** A file as dropped, with its path in the folder that was. */
export interface Dropped {
  readonly path: string;
  readonly blob: Blob;
}

export interface DicomFile {
  readonly name: string;
  /** That it lies in, also in a zip file. */
  readonly folder: string;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Whether a dropped file is DICOM or a zip file, which may hold some. */
export async function mayHoldDicom({ path, blob }: Dropped): Promise<boolean> {
  return isZip(path) || isDirectoryFile(path) || startsDicom(await startOf(blob));
}

/** DICOM files in the order of a folder's walk; a slice that is lost in silence is a wrong number. */
export async function findFiles(dropped: readonly Dropped[]): Promise<DicomFile[]> {
  const found: DicomFile[] = [];
  for (const { path, blob } of [...dropped].sort(asWalked)) {
    if (isZip(path)) found.push(...(await inZip(path, blob)));
    else if (isDirectoryFile(path)) continue;
    else if (startsDicom(await startOf(blob))) found.push({ name: plain(path), folder: folderOf(path), bytes: () => whole(path, blob) });
    else if (isStump(path, blob.size)) throw new FvvError(`${plain(path)}: empty or cut off`, "export the images again");
  }
  return found;
}

async function whole(path: string, blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  if (blob.size > MAX_FILE) throw new FvvError(`${plain(path)}: holds more than ${MAX_FILE} bytes`);
  return new Uint8Array(await blob.arrayBuffer());
}

async function inZip(path: string, blob: Blob): Promise<DicomFile[]> {
  const found: DicomFile[] = [];
  const members = [...(await membersOf(path, blob))].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (const [at, member] of members.entries()) {
    const { name } = member;
    if (at && name === members[at - 1].name)
      throw new FvvError(`${plain(path)}: holds two files named ${plain(name)}`, "make it again from the folders that the images lie in");
    if (name.endsWith("/") || isDirectoryFile(name)) continue;
    if (startsDicom(await member.bytes(START))) found.push({ name: plain(name), folder: `${path}/${folderOf(name)}`, bytes: () => unpacked(path, member) });
    else if (isZip(name) && (await mayHoldImages(path, member)))
      throw new FvvError(`${plain(path)}: holds images in another zip file, ${plain(name)}`, "unpack it first: zip files in zip files are not read");
    else if (isStump(name, member.size)) throw new FvvError(`${plain(path)}: ${plain(name)} is empty or cut off`, "export the images again");
  }
  return found;
}

async function unpacked(path: string, member: Member): Promise<Uint8Array<ArrayBuffer>> {
  if (member.size > MAX_FILE) throw new FvvError(`${plain(path)}: ${plain(member.name)} unpacks to more than ${MAX_FILE} bytes`);
  return member.bytes();
}

/** Whether a zip file in a zip file holds DICOM, or cannot be looked into: nobody's images are passed over. */
async function mayHoldImages(path: string, inner: Member): Promise<boolean> {
  if (inner.size > MAX_INNER) return true;
  try {
    for (const member of await membersOf(path, new Blob([await inner.bytes()])))
      if (isZip(member.name) || startsDicom(await member.bytes(START))) return true;
    return false;
  } catch {
    return true;
  }
}

const startOf = async (blob: Blob): Promise<Uint8Array> => new Uint8Array(await blob.slice(0, START).arrayBuffer());
const isZip = (path: string): boolean => /\.zip$/i.test(path);
const lastPart = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf("/"), 0));
const isDirectoryFile = (path: string): boolean => lastPart(path).toUpperCase() === "DICOMDIR";
/** Named as an image, and too short for one: a transfer that failed. */
const isStump = (path: string, size: number): boolean => size < START && /^[^.].*\.(dcm|ima)$/i.test(lastPart(path));

/** A folder's files come before those of its folders, each sorted by name. */
function asWalked(a: Dropped, b: Dropped): number {
  const [one, other] = [a.path.split("/"), b.path.split("/")];
  const at = one.findIndex((part, place) => part !== other[place]);
  if (at < 0) return one.length - other.length;
  const [last, otherLast] = [at === one.length - 1, at >= other.length - 1];
  if (last !== otherLast) return last ? -1 : 1;
  return one[at] < (other[at] ?? "") ? -1 : 1;
}
