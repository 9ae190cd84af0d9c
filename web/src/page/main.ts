/** The page: files in, progress, the answer; everything runs on the visitor's machine. */

import { readBundle } from "../engine/bundle.js";
import { FvvError } from "../engine/data.js";
import type { Bundle } from "../engine/ensemble.js";
import type { ImageFile } from "../engine/nifti.js";
import type { Answer, FromWorker, Job, Start } from "../worker.js";
import { showAnswer, wireAnswer } from "./answer.js";
import { element, input, made, shown } from "./dom.js";
import { chosen, type Dicom, type Images } from "./files.js";
import { chosenFiles, droppedFiles, type Given } from "./given.js";
import { example, manifest, modelFiles, modelsAreOwn, software, unpacked, useModels } from "./parts.js";
import { show } from "./viewer.js";

/** A module of one function that uses SIMD. */
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);
const STEPS: readonly (readonly [string, string])[] = [
  ["read", "Read the images"],
  ["models", "Open the models"],
  ["prepare", "Find the brain, scale intensities"],
  ["check", "Check the quality of the images"],
  ["network", "Run the models"],
  ["restore", "Measure"],
];

let worker: Worker | null = null;
let choice: Images | Dicom | null = null;
let started = 0;
/** Number of what was given or asked last: whatever began before it and ends later changes nothing. */
let latest = 0;

async function openWorker(): Promise<Worker> {
  const script = new TextDecoder().decode(await unpacked("fvv-worker"));
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const opened = new Worker(url); // No module: from a file, Chromium starts classic workers alone.
  opened.onerror = (event) => end(`This browser cannot run the models: ${event.message || "its worker did not start"}`);
  const start: Start = { manifest: manifest(), models: modelFiles(), wasm: await unpacked("fvv-wasm") };
  opened.postMessage(start, [start.wasm]);
  return opened;
}

async function run(job: Job): Promise<void> {
  const mine = ++latest;
  refuse("");
  shown("answer", false);
  hideViewer();
  shown("progress", true);
  element("steps").replaceChildren(...STEPS.map(([id, name]) => {
    const item = made("li", name);
    item.id = `step-${id}`;
    return item;
  }));
  running(true);
  started = performance.now();
  try {
    const opened = worker ?? (await openWorker());
    if (mine !== latest) return opened.terminate();
    worker = opened;
  } catch (error) {
    if (mine === latest) end(`This browser cannot run the models: ${String(error)}`);
    return;
  }
  worker.onmessage = (event: MessageEvent<FromWorker>) => {
    if (mine === latest) heard(event.data, job, mine);
  };
  worker.postMessage(job);
}

function heard(message: FromWorker, job: Job, mine: number): void {
  if (message.kind === "step") {
    const at = STEPS.findIndex(([id]) => id === message.step);
    STEPS.forEach(([id, name], place) => {
      const item = element(`step-${id}`);
      item.className = place < at ? "done" : place === at ? "now" : "";
      item.textContent = place === at && message.detail ? `${name} (${message.detail})` : name;
      // A screen reader hears each step and each model, not each fifty files.
      if (place === at && message.step !== "read") element("told").textContent = item.textContent;
    });
  } else if (message.kind === "refused") end(message.message);
  else {
    end("");
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    element("took").textContent = `${job.name}: answered in ${seconds} s on this machine.`;
    showAnswer(message.answer, namesOf(job));
    element("state").focus();
    // The answer is on the screen before the viewer starts, which may take seconds without a graphics card.
    requestAnimationFrame(() =>
      setTimeout(() => {
        if (mine === latest) void view(message.answer, mine);
      }),
    );
  }
}

async function view(answer: Answer, mine: number): Promise<void> {
  shown("viewer", true);
  try {
    if (await show(answer, () => mine === latest)) element("viewer-canvas").dataset.ready = "true";
  } catch (error) {
    if (mine !== latest) return;
    hideViewer();
    refuse(`The viewer cannot be shown: ${String(error)}`);
  }
}

/** It holds the images of the patient before until others are loaded: only a canvas that is ready is seen (style.css). */
function hideViewer(): void {
  shown("viewer", false);
  delete element("viewer-canvas").dataset.ready;
}

/** What the answer was made from. */
function namesOf({ name, source }: Job): Record<string, string> {
  if ("dicom" in source) return { dicom: name };
  return { [source.told.adc ? "adc" : "b0"]: source.b0.name, b1000: source.b1000.name };
}

function end(message: string): void {
  running(false);
  shown("progress", false);
  refuse(message);
}

function cancel(): void {
  latest++;
  worker?.terminate();
  worker = null;
  end("Cancelled.");
}

function running(now: boolean): void {
  for (const id of ["files", "folder", "example", "run", "bundle", "page-models"]) (element(id) as HTMLButtonElement).disabled = now;
}

function refuse(message: string): void {
  element("refusal").textContent = message;
  shown("refusal", message !== "");
}

const sentence = (error: unknown): string => (error instanceof FvvError ? error.toString() : error instanceof Error ? error.message : String(error));

/** What was given: models where it holds a bundle.json, else images. */
async function take(given: Promise<Given[]> | Given[]): Promise<void> {
  if ((element("run") as HTMLButtonElement).disabled) return; // An examination is being answered.
  cleared();
  const mine = latest;
  try {
    const files = await given;
    const models = files.some(({ path }) => /(^|\/)bundle\.json$/.test(path));
    const found = await (models ? readModels(files) : chosen(files));
    if (mine !== latest) return;
    if ("manifest" in found) {
      useModels(found);
      otherModels();
    } else offer((choice = found));
  } catch (error) {
    if (mine === latest) refuse(sentence(error));
  }
}

/** No answer stands beside files of another patient, or other models. */
function cleared(): void {
  latest++;
  refuse("");
  choice = null;
  for (const id of ["choice", "answer"]) shown(id, false);
  hideViewer();
}

const readModels = (files: readonly Given[]): Promise<Bundle> =>
  readBundle(files.map(({ blob }) => ({ name: blob.name, bytes: async () => new Uint8Array(await blob.arrayBuffer()) })));

function otherModels(): void {
  worker?.terminate();
  worker = null;
  const { run_name, notice, models } = manifest();
  const whose = modelsAreOwn() ? `Your own models: ${run_name}, ${models.length} of them` : `Models: ${run_name}`;
  element("models").textContent = `${whose}${notice ? `, ${notice}` : ""}.`;
  shown("page-models", modelsAreOwn());
}

function offer(given: Images | Dicom): void {
  const images = "images" in given ? given : null;
  for (const id of ["choose-b0-line", "choose-b1000-line", "adc-line", "b-value-line"]) shown(id, images !== null);
  shown("given", images === null);
  const n = "dicom" in given ? given.dicom.length : 0;
  element("given").textContent = "dicom" in given ? `DICOM: ${given.name}, ${n} file${n > 1 ? "s" : ""}` : "";
  if (images) {
    for (const [id, place] of [["choose-b0", images.b0], ["choose-b1000", images.b1000]] as const) {
      const list = element(id) as HTMLSelectElement;
      list.replaceChildren(...images.paths.map((path, at) => Object.assign(document.createElement("option"), { value: String(at), textContent: path })));
      list.value = String(Math.max(place, 0));
    }
    input("adc").checked = images.adc;
    input("b-value").value = "";
  }
  shown("choice", true);
  element("run").focus();
}

function runChosen(): void {
  if (!choice) return;
  if ("dicom" in choice) return void run({ name: choice.name, source: { dicom: choice.dicom } });
  const { images } = choice;
  const [b0, b1000] = ["choose-b0", "choose-b1000"].map((id) => images[Number((element(id) as HTMLSelectElement).value)]);
  const adc = input("adc").checked;
  if (b0 === b1000 && (b0.bval === undefined || adc)) return refuse("b0 and b1000 are the same file: choose two, or give its .bval file, too.");
  const bValue = input("b-value").value === "" && input("b-value").validity.valid ? null : input("b-value").valueAsNumber;
  if (bValue !== null && !(bValue > 0)) return refuse("b-value: expected a number over 0, in s/mm^2; leave it empty where a .bval file states it.");
  void run({ name: b1000.name.replace(/\.nii(\.gz)?$/i, ""), source: { b0, b1000, told: { adc, bValue } } });
}

function wire(): void {
  const drop = element("drop");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  document.addEventListener("drop", (event) => void take(droppedFiles(event.dataTransfer)));
  for (const id of ["files", "folder", "bundle"]) input(id).addEventListener("change", () => chosenIn(input(id)));
  element("page-models").addEventListener("click", () => {
    cleared();
    useModels(null);
    otherModels();
  });
  element("run").addEventListener("click", runChosen);
  element("cancel").addEventListener("click", cancel);
  element("example").addEventListener("click", () => {
    cleared();
    const [b0, b1000] = example() as ImageFile[];
    void run({ name: "simulated example", source: { b0, b1000, told: {} } });
  });
  wireAnswer();
}

/** The same files may be chosen again. */
function chosenIn(chooser: HTMLInputElement): void {
  const files = chosenFiles(chooser.files ?? []);
  chooser.value = "";
  if (!files.length) return;
  if (chooser.id !== "bundle" || files.some(({ blob }) => blob.name === "bundle.json")) return void take(files);
  cleared();
  refuse("bundle.json is not among these files (give the folder that `fvv convert` wrote)");
}

otherModels();
element("software").textContent = software;
const able = typeof WebAssembly === "object" && WebAssembly.validate(SIMD) && typeof DecompressionStream === "function";
if (able) {
  wire();
  document.documentElement.dataset.ready = "true";
} else refuse("This browser is too old to run the models: WebAssembly with SIMD and DecompressionStream are needed (Chromium 91, Firefox 113, Safari 16.4 or later).");
