/** One entry of a Siemens image's CSA header, as nibabel's `csareader` reads it. */

import type { Dataset } from "./dataset.js";

const MOST = 1000;
const CREATOR = "SIEMENS CSA HEADER";
const NUMERIC = new Set(["FL", "FD", "DS", "SS", "US", "SL", "UL", "IS"]);

/** Values of an entry; empty where there is none, or it cannot be read. */
export function siemensCsa(dataset: Dataset, name: string): number[] {
  try {
    for (let block = 0x10; block <= 0xff; block++) {
      if (dataset.text(0x00290000 + block) !== CREATOR) continue;
      const bytes = dataset.bytes(0x00290000 + block * 0x100 + 0x10);
      return bytes ? (entries(bytes).get(name) ?? []) : [];
    }
  } catch {
    return [];
  }
  return [];
}

function entries(bytes: Uint8Array): Map<string, number[]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at: number, length: number): string => {
    const letters = String.fromCharCode(...bytes.subarray(at, at + length));
    return letters.includes("\0") ? letters.slice(0, letters.indexOf("\0")) : letters;
  };
  const second = text(0, 4) === "SV10";
  let at = second ? 8 : 0;
  const n = view.getUint32(at, true);
  at += 8;
  if (n < 1 || n > MOST) throw new Error("no CSA header");
  const found = new Map<string, number[]>();
  let firstItems = 0;
  for (let tag = 0; tag < n; tag++) {
    const [name, vm, vr, nItems] = [text(at, 64), view.getInt32(at + 64, true), text(at + 68, 4), view.getInt32(at + 76, true)];
    at += 84;
    if (tag === 0) firstItems = nItems;
    if (nItems > MOST) throw new Error("no CSA header");
    let nValues = vm === 0 ? nItems : vm;
    const values: number[] = [];
    for (let item = 0; item < nItems; item++) {
      const length = second ? view.getInt32(at + 4, true) : view.getInt32(at, true) - firstItems;
      at += 16;
      if (length < 0 || at + length > bytes.length) {
        if (second) throw new Error("an item is too long");
        break;
      }
      if (item >= nValues) continue;
      if (NUMERIC.has(vr) && length === 0) {
        nValues = item;
        continue;
      }
      if (NUMERIC.has(vr)) values.push(Number(text(at, length)));
      at += length + ((4 - (length % 4)) % 4);
    }
    found.set(name, values);
  }
  return found;
}
