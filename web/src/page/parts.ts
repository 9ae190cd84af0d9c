/** What lies packed inside the page: the worker, onnxruntime's program, the models, the example. */

import type { Manifest } from "../engine/data.js";
import type { Bundle } from "../engine/ensemble.js";

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

const stored = JSON.parse(text("fvv-bundle")) as StoredBundle;
let own: Bundle | null = null;

export const software = stored.software;
/** The manifest of the models in use: the visitor's own, or those in the page. */
export const manifest = (): Manifest => (own ?? stored).manifest;
export const modelFiles = (): readonly Uint8Array[] => own?.models ?? stored.manifest.models.map(({ file }) => fromBase64(stored.models[file]));
/** Use other models; null: those in the page. */
export function useModels(bundle: Bundle | null): void {
  own = bundle;
}
export const modelsAreOwn = (): boolean => own !== null;
