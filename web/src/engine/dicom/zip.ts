/** Zip files: the central directory, and members stored or deflated (PKWARE's APPNOTE 6.3.10, 4.3). */

import { FvvError } from "../data.js";
import { plain } from "./plain.js";

const MAX_MEMBERS = 500_000;
const LONGEST_END = 22 + 0xffff;
const [END, ENTRY, LOCAL] = [0x06054b50, 0x02014b50, 0x04034b50];
const [STORED, DEFLATED] = [0, 8];

export interface Member {
  readonly name: string;
  /** Bytes, unpacked, as the directory states them. */
  readonly size: number;
  /** Its bytes, checked; or its first ones, not checked. */
  bytes(most?: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** What a zip file holds, in its order. */
export async function membersOf(path: string, blob: Blob): Promise<Member[]> {
  const refuse = (why: string, hint = ""): never => {
    throw new FvvError(`${plain(path)}: not a readable zip file: ${why}`, hint);
  };
  const part = async (from: number, to: number): Promise<DataView<ArrayBuffer>> => new DataView(await blob.slice(from, to).arrayBuffer());
  const tail = await part(Math.max(blob.size - LONGEST_END, 0), blob.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end--;
  if (end < 0) return refuse("it has no directory; is it cut off?");
  const [n, length, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (n === 0xffff || start === 0xffffffff || n > MAX_MEMBERS) return refuse("over 65,534 files or 4 GB", "unpack it, and give the folder");
  const directory = await part(start, start + length);
  const found: Member[] = [];
  for (let at = 0, count = 0; count < n; count++) {
    if (at + 46 > directory.byteLength || directory.getUint32(at, true) !== ENTRY) return refuse("its directory is damaged");
    const u16 = (place: number): number => directory.getUint16(at + place, true);
    const u32 = (place: number): number => directory.getUint32(at + place, true);
    const [flags, method, crc, packed, size, offset] = [u16(8), u16(10), u32(16), u32(20), u32(24), u32(42)];
    const letters = new Uint8Array(directory.buffer, at + 46, Math.min(u16(28), directory.byteLength - at - 46));
    const name = new TextDecoder(flags & 0x800 ? "utf-8" : "windows-1252").decode(letters);
    at += 46 + u16(28) + u16(30) + u16(32);
    const bytes = async (most = Infinity): Promise<Uint8Array<ArrayBuffer>> => {
      if (flags & 1) return refuse(`${plain(name)} is encrypted`, "unpack it, and give the folder");
      if (method !== STORED && method !== DEFLATED) return refuse(`${plain(name)} is packed by method ${method}`, "unpack it, and give the folder");
      const head = await part(offset, offset + 30);
      if (head.byteLength < 30 || head.getUint32(0, true) !== LOCAL) return refuse(`${plain(name)} is not where its directory says`);
      const first = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
      const content = blob.slice(first, first + packed);
      const wanted = Math.min(size, most);
      const result = method === STORED ? new Uint8Array(await content.slice(0, wanted).arrayBuffer()) : await inflated(content, wanted);
      if (!result || result.length < wanted || (wanted === size && crc32(result) !== crc)) return refuse(`${plain(name)} is damaged`);
      return result;
    };
    found.push({ name, size, bytes });
  }
  return found;
}

/** The first bytes of a deflated stream, however much more it may stand for; null where it is none. */
async function inflated(content: Blob, wanted: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const result = new Uint8Array(wanted);
  let at = 0;
  try {
    const reader = content.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    while (at < wanted) {
      const { done, value } = await reader.read();
      if (done) return null;
      result.set(value.subarray(0, wanted - at), at);
      at += Math.min(value.length, wanted - at);
    }
    reader.cancel().catch(() => undefined);
    return result;
  } catch {
    return null;
  }
}

const TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  let one = n;
  for (let bit = 0; bit < 8; bit++) one = one & 1 ? (one >>> 1) ^ 0xedb88320 : one >>> 1;
  return one;
});

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (let at = 0; at < bytes.length; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[at]) & 0xff];
  return ~crc >>> 0;
}
