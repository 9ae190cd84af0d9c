/** Folders of models in Node: `node bundles.js FOLDER` prints what the page makes of each, as JSON (tests/web/test_bundle.py). */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readBundle } from "../engine/bundle.js";
import { FvvError, type Manifest } from "../engine/data.js";

const [folder] = process.argv.slice(2);
const found: Record<string, Manifest | { error: string }> = {};
for (const name of readdirSync(folder)) {
  const files = readdirSync(join(folder, name));
  try {
    const bytes = (file: string) => async () => new Uint8Array(readFileSync(join(folder, name, file)));
    found[name] = (await readBundle(files.map((file) => ({ name: file, bytes: bytes(file) })))).manifest;
  } catch (error) {
    if (!(error instanceof FvvError)) throw error;
    found[name] = { error: error.toString() };
  }
}
console.log(JSON.stringify(found));
