/** The page: files in, progress, the answer; everything runs on the visitor's machine. */

import type { ImageFile } from "../engine/nifti.js";
import type { FromWorker, Job, Start } from "../worker.js";
import { showAnswer, wireAnswer } from "./answer.js";
import { element, input, made, shown } from "./dom.js";
import { type Choice, chosen } from "./files.js";
import { bundle, example, modelFiles, unpacked } from "./parts.js";
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
let choice: Choice | null = null;
let started = 0;

async function openWorker(): Promise<Worker> {
  const script = new TextDecoder().decode(await unpacked("fvv-worker"));
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const opened = new Worker(url); // No module: from a file, Chromium starts classic workers alone.
  opened.onerror = (event) => end(`This browser cannot run the models: ${event.message || "its worker did not start"}`);
  const start: Start = { manifest: bundle.manifest, models: modelFiles(), wasm: await unpacked("fvv-wasm") };
  opened.postMessage(start, [start.wasm]);
  return opened;
}

async function run(job: Job): Promise<void> {
  refuse("");
  shown("answer", false);
  shown("viewer", false);
  shown("progress", true);
  element("steps").replaceChildren(...STEPS.map(([id, name]) => {
    const item = made("li", name);
    item.id = `step-${id}`;
    return item;
  }));
  running(true);
  started = performance.now();
  try {
    worker ??= await openWorker();
  } catch (error) {
    return end(`This browser cannot run the models: ${String(error)}`);
  }
  worker.onmessage = (event: MessageEvent<FromWorker>) => heard(event.data, job);
  worker.postMessage(job);
}

function heard(message: FromWorker, job: Job): void {
  if (message.kind === "step") {
    const at = STEPS.findIndex(([id]) => id === message.step);
    STEPS.forEach(([id, name], place) => {
      const item = element(`step-${id}`);
      item.className = place < at ? "done" : place === at ? "now" : "";
      const model = place === at && message.model !== undefined ? ` (${message.model + 1} of ${bundle.manifest.models.length})` : "";
      item.textContent = name + model;
      if (place === at) element("told").textContent = name + model;
    });
  } else if (message.kind === "refused") end(message.message);
  else {
    end("");
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    element("took").textContent = `${job.name}: answered in ${seconds} s on this machine.`;
    showAnswer(message.answer, { b0: job.b0.name, b1000: job.b1000.name });
    shown("viewer", true);
    show(message.answer).catch((error: unknown) => {
      shown("viewer", false); // It may still hold the images of another patient.
      refuse(`The viewer cannot be shown: ${String(error)}`);
    });
    element("state").focus();
  }
}

function end(message: string): void {
  running(false);
  shown("progress", false);
  refuse(message);
}

function cancel(): void {
  worker?.terminate();
  worker = null;
  end("Cancelled.");
}

function running(now: boolean): void {
  for (const id of ["files", "example", "run"]) (element(id) as HTMLButtonElement).disabled = now;
}

function refuse(message: string): void {
  element("refusal").textContent = message;
  shown("refusal", message !== "");
}

async function take(files: readonly File[]): Promise<void> {
  if ((element("run") as HTMLButtonElement).disabled) return; // An examination is being answered.
  refuse("");
  choice = null;
  for (const id of ["choice", "answer", "viewer"]) shown(id, false); // No answer stands beside files of another patient.
  try {
    choice = await chosen(files);
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
  for (const [id, place] of [["choose-b0", choice.b0], ["choose-b1000", choice.b1000]] as const) {
    const list = element(id) as HTMLSelectElement;
    list.replaceChildren(...choice.images.map(({ name }, at) => Object.assign(document.createElement("option"), { value: String(at), textContent: name })));
    list.value = String(Math.max(place, 0));
  }
  shown("choice", true);
  element("run").focus();
}

function runChosen(): void {
  if (!choice) return;
  const [b0, b1000] = ["choose-b0", "choose-b1000"].map((id) => (choice as Choice).images[Number((element(id) as HTMLSelectElement).value)]);
  if (b0 === b1000 && b0.bval === undefined) return refuse("b0 and b1000 are the same file: choose two, or give its .bval file, too.");
  void run({ name: b1000.name.replace(/\.nii(\.gz)?$/i, ""), b0, b1000 });
}

function wire(): void {
  const drop = element("drop");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  document.addEventListener("drop", (event) => void take([...(event.dataTransfer?.files ?? [])]));
  input("files").addEventListener("change", () => void take([...(input("files").files ?? [])]));
  element("run").addEventListener("click", runChosen);
  element("cancel").addEventListener("click", cancel);
  element("example").addEventListener("click", () => {
    const [b0, b1000] = example() as ImageFile[];
    void run({ name: "simulated example", b0, b1000 });
  });
  wireAnswer();
}

element("models").textContent = `Models: ${bundle.manifest.run_name}${bundle.manifest.notice ? `, ${bundle.manifest.notice}` : ""}.`;
element("software").textContent = bundle.software;
const able = typeof WebAssembly === "object" && WebAssembly.validate(SIMD) && typeof DecompressionStream === "function";
if (able) {
  wire();
  document.documentElement.dataset.ready = "true";
} else refuse("This browser is too old to run the models: WebAssembly with SIMD and DecompressionStream are needed (Chromium 91, Firefox 113, Safari 16.4 or later).");
