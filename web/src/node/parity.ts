/**
 * The engine on a folder of examinations, in Node: `node parity.js CASES BUNDLE`. Each folder in CASES holds b0 (or adc)
 * and b1000 (.nii or .nii.gz, with a .bval file or without), or dwi with a .bval file; b_value.txt may hold what a user
 * says the b-value is; the answer goes into it as web.json,
 * with web_*.bin for comparison with Python (tests/web).
 */

import { readdirSync, readFileSync, writeFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { readBundle } from "../engine/bundle.js";
import { FvvError } from "../engine/data.js";
import { openEnsemble } from "../engine/ensemble.js";
import { examine } from "../engine/examine.js";
import { type ImageFile, openNifti, readCase, niftiOf } from "../engine/nifti.js";
import { resultsOf } from "../engine/results.js";

const [casesFolder, bundleFolder] = process.argv.slice(2);

function imageFile(folder: string, ...stems: string[]): ImageFile {
  for (const stem of stems)
    for (const suffix of [".nii.gz", ".nii"]) {
      const path = join(folder, stem + suffix);
      if (!existsSync(path)) continue;
      const bval = join(folder, `${stem}.bval`);
      const bytes = new Uint8Array(readFileSync(path));
      return { name: stem + suffix, bytes, bval: existsSync(bval) ? readFileSync(bval, "latin1") : undefined };
    }
  throw new FvvError(`${stems[0]}: missing`);
}

const { manifest, models } = await readBundle(
  readdirSync(bundleFolder).map((name) => ({ name, bytes: async () => new Uint8Array(readFileSync(join(bundleFolder, name))) })),
);
const wasm = readFileSync(new URL(import.meta.resolve("onnxruntime-web/ort-wasm-simd-threaded.wasm")));
const ensemble = await openEnsemble({ manifest, models }, new Uint8Array(wasm).buffer);

const raw = (folder: string, name: string, data: Uint8Array | Float32Array): void =>
  writeFileSync(join(folder, `web_${name}.bin`), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));

for (const name of readdirSync(casesFolder).sort()) {
  const folder = join(casesFolder, name);
  const answer: Record<string, unknown> = {};
  const started = performance.now();
  try {
    const b1000 = imageFile(folder, "b1000", "dwi");
    const adc = readdirSync(folder).some((file) => /^adc\.nii/.test(file));
    const said = join(folder, "b_value.txt");
    const bValue = existsSync(said) ? Number(readFileSync(said, "utf8")) : null;
    const { prediction, prepared, segmentation } = await examine(
      await readCase(name, imageFile(folder, ...(adc ? ["adc"] : ["b0", "dwi"])), b1000, { adc, bValue }),
      ensemble,
      manifest,
    );
    Object.assign(answer, resultsOf(prediction, "", {}), { shape: prepared?.brain.shape ?? null });
    if (prepared) {
      raw(folder, "b0", prepared.b0.data);
      raw(folder, "b1000", prepared.b1000.data);
      raw(folder, "mask", prepared.brain.data);
    }
    if (segmentation) {
      raw(folder, "brain", segmentation.brain.data);
      raw(folder, "stroke", segmentation.stroke.data);
      raw(folder, "votes", segmentation.flairVisibleVotes.data);
    }
    if (prediction.native) {
      const { brain, stroke, votes } = prediction.native;
      const n = prediction.nModels;
      const times = (mask: typeof brain): typeof brain => ({ data: mask.data.map((one) => one * n), shape: mask.shape });
      writeFileSync(join(folder, "web_predictions.nii"), niftiOf([times(brain), times(stroke), votes], await openNifti(b1000)));
    }
  } catch (error) {
    if (!(error instanceof FvvError)) throw error;
    answer.error = error.toString();
  }
  answer.wall_s = (performance.now() - started) / 1000;
  writeFileSync(join(folder, "web.json"), JSON.stringify(answer));
  console.log(`${name}: ${String(answer.decision ?? answer.error)} in ${(answer.wall_s as number).toFixed(1)} s`);
}
