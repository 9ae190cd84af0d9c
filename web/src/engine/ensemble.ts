/** The models of a bundle, applied one after another (`fvv.inference`); onnxruntime's WebAssembly, one thread. */

import * as ort from "onnxruntime-web/wasm";
import { emptyMask, type Image32, type Shape } from "./arrays.js";
import { FvvError, type Manifest } from "./data.js";
import type { ModelMasks } from "./fusion.js";
import { type NetworkInput, part } from "./slabs.js";

/** Of the network's output: brain, stroke, FLAIR-visible; of four channels these are meant. */
const OF_FOUR = [0, 2, 3];
const OF_THREE = [0, 1, 2];
/** Slices in the network at once: bounds the memory, changes no result; each chunk also computes its neighbours. */
const CHUNK_SLICES = 32;

export interface Bundle {
  readonly manifest: Manifest;
  /** One ONNX file for each model of the manifest. */
  readonly models: readonly Uint8Array[];
}

export interface ModelOutput {
  readonly masks: ModelMasks;
  readonly strokeLogits: Image32;
}

export interface Ensemble {
  readonly length: number;
  readonly provider: string;
  run(input: NetworkInput, model: number): Promise<ModelOutput>;
}

/** Open all models; `wasm` is onnxruntime's program, where it cannot be read from beside the script. */
export async function openEnsemble(bundle: Bundle, wasm?: ArrayBuffer): Promise<Ensemble> {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  if (wasm) ort.env.wasm.wasmBinary = wasm;
  const sessions: ort.InferenceSession[] = [];
  for (const model of bundle.models)
    sessions.push(await ort.InferenceSession.create(model, { executionProviders: ["wasm"], enableMemPattern: false }));
  return {
    length: sessions.length,
    provider: "onnxruntime-web WebAssembly",
    run: (input, model) =>
      runModel(sessions[model], input, bundle.manifest.models[model].file, bundle.manifest.postprocess.visible_logit),
  };
}

async function runModel(
  session: ort.InferenceSession,
  input: NetworkInput,
  name: string,
  visibleLogit: number,
): Promise<ModelOutput> {
  const over = [0, 0, Math.fround(visibleLogit)];
  const { slices, context, size } = input;
  const shape: Shape = [size, size, slices];
  const masks = [emptyMask(shape), emptyMask(shape), emptyMask(shape)];
  const strokeLogits = new Float32Array(size * size * slices);
  const lowest = [Infinity, Infinity, Infinity];
  const given = session.inputMetadata[0];
  const wholeVolume = !(given.isTensor && typeof given.shape[2] === "number");
  const step = wholeVolume ? CHUNK_SLICES : 1;
  for (let first = 0; first < slices; first += step) {
    const last = Math.min(first + step, slices);
    const tensor = new ort.Tensor("float32", part(input, first, last), [1, 2, last - first + 2 * context, size, size]);
    const found = (await session.run({ [session.inputNames[0]]: tensor }))[session.outputNames[0]];
    const logits = found.data as Float32Array;
    const channels = found.dims[1];
    const wanted = channels === 4 ? OF_FOUR : OF_THREE;
    if (found.dims[0] !== last - first || (channels !== 3 && channels !== 4))
      throw new FvvError(`${name}: expected logits of 3 or 4 channels, got ${found.dims.join(" x ")}`);
    const plane = size * size;
    for (let k = first; k < last; k++)
      wanted.forEach((from, channel) => {
        const start = ((k - first) * channels + from) * plane;
        const mask = masks[channel].data;
        for (let at = 0; at < plane; at++) {
          const logit = logits[start + at];
          if (!Number.isFinite(logit)) throw new FvvError(`${name}: the network's output is not finite`, "the model or the images are damaged");
          if (logit > over[channel]) mask[at * slices + k] = 1;
          if (logit < lowest[channel]) lowest[channel] = logit;
          if (channel === 1) strokeLogits[at * slices + k] = logit;
        }
      });
    found.dispose();
    tensor.dispose();
  }
  if (lowest.some((one) => one >= 0))
    throw new FvvError(`${name}: the network's output is nowhere negative: these are no logits`);
  const [brain, stroke, flairVisible] = masks;
  return { masks: { brain, stroke, flairVisible }, strokeLogits: { data: strokeLogits, shape } };
}
