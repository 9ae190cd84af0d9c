/**
 * The DICOM reader in Node: `node dicom.js FOLDER OUTPUT`. Each folder or zip file in FOLDER is what one drop holds; for
 * each, OUTPUT gets NAME.json (or the refusal in it) and NAME_b0.bin, NAME_b1000.bin (float64) for comparison with Python
 * (tests/web/test_dicom.py).
 */

import { openAsBlob, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FvvError } from "../engine/data.js";
import type { Dropped } from "../engine/dicom/find.js";
import { indexOf, onlyExamination } from "../engine/dicom/group.js";
import { readDicom } from "../engine/dicom/stack.js";

const [folder, output] = process.argv.slice(2);

async function dropped(name: string): Promise<Dropped[]> {
  const path = join(folder, name);
  if (!statSync(path).isDirectory()) return [{ path: name, blob: await openAsBlob(path) }];
  return (await Promise.all(readdirSync(path).map((one) => dropped(join(name, one))))).flat();
}

for (const name of readdirSync(folder)) {
  const stem = join(output, name.replace(/\.zip$/, ""));
  try {
    const { b0, b1000, bValue, notes, warnings } = await readDicom(name, onlyExamination(await indexOf(await dropped(name))));
    writeFileSync(`${stem}.json`, JSON.stringify({ shape: b1000.image.shape, affine: b1000.affine, b_value: bValue, notes, warnings }));
    for (const [kind, { image }] of [["b0", b0], ["b1000", b1000]] as const) writeFileSync(`${stem}_${kind}.bin`, new Uint8Array(image.data.buffer));
  } catch (error) {
    if (!(error instanceof FvvError)) throw error;
    writeFileSync(`${stem}.json`, JSON.stringify({ error: error.toString() }));
  }
}
