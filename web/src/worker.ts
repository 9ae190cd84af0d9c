/** The engine in a thread of its own: images in, progress and the answer out. Cancelling ends the thread. */

import { mapped } from "./engine/arrays.js";
import { type Case, FvvError, type Manifest } from "./engine/data.js";
import type { Dropped } from "./engine/dicom/find.js";
import { indexOf, onlyExamination } from "./engine/dicom/group.js";
import { readDicom } from "./engine/dicom/stack.js";
import { type Display, displayOf } from "./engine/display.js";
import { type Ensemble, openEnsemble } from "./engine/ensemble.js";
import { examine, type Prediction, type Step } from "./engine/examine.js";
import { visibleToHalf } from "./engine/fusion.js";
import { floatNiftiOf, gridFile, gzip, type ImageFile, type NiftiFile, niftiOf, openNifti, readCase, type Told } from "./engine/nifti.js";

export interface Start {
  readonly manifest: Manifest;
  readonly models: readonly Uint8Array[];
  readonly wasm: ArrayBuffer;
}

/** Two NIfTI files (b0, or an ADC map, and b1000), or what was dropped of DICOM. */
export type Source = { readonly b0: ImageFile; readonly b1000: ImageFile; readonly told: Told } | { readonly dicom: readonly Dropped[] };
export interface Job {
  readonly name: string;
  readonly source: Source;
}

/** What the page shows and offers. Images are NIfTI files. */
export interface Answer {
  readonly prediction: Omit<Prediction, "native">;
  readonly b0: Uint8Array<ArrayBuffer>;
  readonly b1000: Uint8Array<ArrayBuffer>;
  /** 1: brain, 2: stroke, 4: FLAIR-visible to at least half of the models; null where nothing was measured. */
  readonly masks: Uint8Array<ArrayBuffer> | null;
  readonly predictions: Uint8Array<ArrayBuffer> | null;
  readonly display: Display;
}

export type FromWorker =
  | { readonly kind: "step"; readonly step: Step | "models" | "read"; readonly detail?: string }
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

/** The images, and a file on whose grid results are written. */
async function read({ name, source }: Job): Promise<{ examination: Case; like: NiftiFile }> {
  if (!("dicom" in source))
    return { examination: await readCase(name, source.b0, source.b1000, source.told), like: await openNifti(source.b1000) };
  const index = await indexOf(source.dicom, (done, of) => say({ kind: "step", step: "read", detail: `${done} of ${of} files` }));
  const examination = await readDicom(name, onlyExamination(index));
  return { examination, like: await gridFile(examination.b1000.image.shape, examination.b1000.affine) };
}

async function run(job: Job): Promise<void> {
  if (!start) throw new Error("no models");
  const { manifest } = start;
  say({ kind: "step", step: "read" });
  const { examination, like } = await read(job);
  if (!ensemble) {
    say({ kind: "step", step: "models" });
    ensemble = await openEnsemble(start, start.wasm);
  }
  const progress = async (step: Step, model?: number): Promise<void> =>
    say({ kind: "step", step, detail: model === undefined ? undefined : `${model + 1} of ${manifest.models.length}` });
  const examined = await examine(examination, ensemble, manifest, progress);
  const { native, ...prediction } = examined.prediction;
  const display = displayOf(examination, examined);
  let masks = null;
  let predictions = null;
  if (native) {
    const n = prediction.nModels;
    const visible = visibleToHalf(native.votes, n).data;
    const { shape } = native.brain;
    const together = mapped(native.brain.data, (one, at) => one + 2 * native.stroke.data[at] + 4 * (visible[at] & native.stroke.data[at]));
    masks = niftiOf([{ data: together, shape }], like);
    const times = (data: Uint8Array): Uint8Array => mapped(data, (one) => one * n);
    predictions = await gzip(niftiOf([{ data: times(native.brain.data), shape }, { data: times(native.stroke.data), shape }, native.votes], like));
  }
  const [b0, b1000] = (["b0", "b1000"] as const).map((name) => floatNiftiOf(examination[name].image, like, display.ranges[name]));
  say({ kind: "answer", answer: { prediction, b0, b1000, masks, predictions, display } });
}
