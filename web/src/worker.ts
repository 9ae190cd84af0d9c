/** The engine in a thread of its own: images in, progress and the answer out. Cancelling ends the thread. */

import { FvvError, type Manifest } from "./engine/data.js";
import { type Ensemble, openEnsemble } from "./engine/ensemble.js";
import { examine, type Prediction, type Step } from "./engine/examine.js";
import { visibleToHalf } from "./engine/fusion.js";
import { floatNiftiOf, gzip, type ImageFile, niftiOf, openNifti, readCase } from "./engine/nifti.js";
import { sliceAxis } from "./engine/geometry.js";

export interface Start {
  readonly manifest: Manifest;
  readonly models: readonly Uint8Array[];
  readonly wasm: ArrayBuffer;
}

export interface Job {
  readonly name: string;
  readonly b0: ImageFile;
  readonly b1000: ImageFile;
}

/** What the page shows and offers. Images are NIfTI files. */
export interface Answer {
  readonly prediction: Omit<Prediction, "native">;
  readonly sliceAxis: number;
  readonly b0: Uint8Array<ArrayBuffer>;
  readonly b1000: Uint8Array<ArrayBuffer>;
  /** 1: brain, 2: stroke, 4: FLAIR-visible to at least half of the models; null where nothing was measured. */
  readonly masks: Uint8Array<ArrayBuffer> | null;
  readonly predictions: Uint8Array<ArrayBuffer> | null;
}

export type FromWorker =
  | { readonly kind: "step"; readonly step: Step | "models" | "read"; readonly model?: number }
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "refused"; readonly message: string };

const say = (message: FromWorker): void => self.postMessage(message);
let start: Start | null = null;
let ensemble: Ensemble | null = null;

self.onmessage = (event: MessageEvent<Start | Job>): void => {
  if ("wasm" in event.data) start = event.data;
  else
    run(event.data).catch((error: unknown) =>
      say({ kind: "refused", message: error instanceof FvvError ? error.toString() : `the program failed: ${String(error)}` }),
    );
};

async function run({ name, b0, b1000 }: Job): Promise<void> {
  if (!start) throw new Error("no models");
  say({ kind: "step", step: "read" });
  const examination = await readCase(name, b0, b1000);
  if (!ensemble) {
    say({ kind: "step", step: "models" });
    ensemble = await openEnsemble(start, start.wasm);
  }
  const progress = async (step: Step, model?: number): Promise<void> => say({ kind: "step", step, model });
  const { prediction, grid } = await examine(examination, ensemble, start.manifest, progress);
  const like = await openNifti(b1000);
  const { native, ...rest } = prediction;
  let masks = null;
  let predictions = null;
  if (native) {
    const n = prediction.nModels;
    const visible = visibleToHalf(native.votes, n).data;
    const { shape } = native.brain;
    const together = native.brain.data.map((one, at) => one + 2 * native.stroke.data[at] + 4 * (visible[at] & native.stroke.data[at]));
    masks = niftiOf([{ data: together, shape }], like);
    const times = (data: Uint8Array): Uint8Array => data.map((one) => one * n);
    predictions = await gzip(niftiOf([{ data: times(native.brain.data), shape }, { data: times(native.stroke.data), shape }, native.votes], like));
  }
  const images = [examination.b0, examination.b1000].map(({ image }) => floatNiftiOf(image, like));
  say({ kind: "answer", answer: { prediction: rest, sliceAxis: sliceAxis(grid), b0: images[0], b1000: images[1], masks, predictions } });
}
