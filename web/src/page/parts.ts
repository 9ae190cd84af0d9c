/** What lies packed inside the page: the worker, onnxruntime's program, the models, the example. */

import type { Manifest } from "../engine/data.js";

interface StoredBundle {
  readonly software: string;
  readonly manifest: Manifest;
  readonly models: Readonly<Record<string, string>>;
}

const text = (id: string): string => document.getElementById(id)?.textContent ?? "";

export function fromBase64(content: string): Uint8Array<ArrayBuffer> {
  const letters = atob(content);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** A part stored as base64 of its gzip. */
export async function unpacked(id: string): Promise<ArrayBuffer> {
  const stream = new Blob([fromBase64(text(id))]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export function example(): { name: string; bytes: Uint8Array<ArrayBuffer> }[] {
  return ["b0", "b1000"].map((stem) => ({ name: `${stem}.nii.gz`, bytes: fromBase64(text(`fvv-example-${stem}`)) }));
}

export const bundle = JSON.parse(text("fvv-bundle")) as StoredBundle;

export const modelFiles = (): Uint8Array[] => bundle.manifest.models.map(({ file }) => fromBase64(bundle.models[file]));
