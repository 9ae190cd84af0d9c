/** The answer in words, as `fvv predict` gives it, and at another cut-off at once. */

import type { Decision } from "../engine/data.js";
import { decideAgain, formatMl } from "../engine/decision.js";
import { fixed, general } from "../engine/format.js";
import { resultsOf } from "../engine/results.js";
import type { Answer } from "../worker.js";
import { download, element, input, made, shown } from "./dom.js";
import { manifest, software } from "./parts.js";
import { synthesisPng } from "./synthesis.js";

const MEANING: Readonly<Record<string, string>> = {
  "mismatch likely": "Little of the stroke is visible on FLAIR.",
  "mismatch unlikely": "The stroke is visible on FLAIR.",
  "no lesion found": "The models found no acute stroke.",
  "not assessable": "The images cannot be judged; no volume is given.",
};
const COLOUR: Readonly<Record<string, string>> = {
  "mismatch likely": "#0b6e4f",
  "mismatch unlikely": "#8a4b08",
  "no lesion found": "#33475b",
  "not assessable": "#a3162e",
};
/** Findings on the picture; the rest is in results.json. */
const MOST_REMARKS = 10;
let current: { answer: Answer; names: Readonly<Record<string, string>> } | null = null;

export function showAnswer(answer: Answer, names: Readonly<Record<string, string>>): void {
  current = { answer, names };
  input("cutoff").value = String(answer.prediction.decision.cutoffMl);
  shown("answer", true);
  for (const id of ["save-predictions", "cutoff-line", "overlays"]) shown(id, answer.predictions !== null);
  tell();
}

/** At the cut-off of the slider. */
function decision(): Decision {
  if (!current) throw new Error("no answer");
  const { decision: first, strokeMl, fvvMl, fvvPerModelMl } = current.answer.prediction;
  const cutoff = Number(input("cutoff").value);
  return cutoff === first.cutoffMl ? first : decideAgain(first, { strokeMl, fvvMl, perModelMl: fvvPerModelMl }, cutoff);
}

function tell(): void {
  if (!current) return;
  const { prediction } = current.answer;
  const { state, cutoffMl, reasons } = decision();
  element("state").textContent = state;
  element("state").className = `state ${state.replaceAll(" ", "-")}`;
  element("meaning").textContent = MEANING[state];
  element("cutoff-value").textContent = `${general(cutoffMl)} mL`;
  const perModel = prediction.fvvPerModelMl;
  const spread = perModel.length ? ` (models: ${formatMl(Math.min(...perModel), cutoffMl)} to ${formatMl(Math.max(...perModel), cutoffMl)})` : "";
  const { strokeMl, fvvMl } = prediction;
  const share = strokeMl === null || fvvMl === null ? "not measured" : strokeMl ? `${fixed((100 * fvvMl) / strokeMl, 0)} %` : "no stroke";
  const rows: [string, string][] = [
    ["FLAIR Visibility Volume", formatMl(prediction.fvvMl, cutoffMl) + spread],
    ["Stroke", formatMl(prediction.strokeMl)],
    ["Share of the stroke that is FLAIR-visible", share],
    ["Brain", formatMl(prediction.brainMl)],
  ];
  if (prediction.mismatchProbability !== null) {
    const { fitted_on: source, prevalence } = manifest().calibration ?? { fitted_on: "unknown", prevalence: null };
    const holds = prevalence === null ? "" : ` at a prevalence of ${fixed(100 * prevalence, 0)} %`;
    rows.push(["P(mismatch)", `${fixed(prediction.mismatchProbability, 2)}${holds} (fitted on: ${source})`]);
  }
  if (prediction.lesionAdc)
    rows.push(["ADC in the stroke", `median ${fixed(prediction.lesionAdc[0], 0)} × 10⁻⁶ mm²/s, ${fixed(prediction.lesionAdc[2], 2)} of the brain's`]);
  rows.push(["Models", prediction.models]);
  element("numbers").replaceChildren(...rows.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  element("reasons").replaceChildren(
    ...reasons.map((one) => made("li", `${one.severity}: ${one.message}`, one.severity.replaceAll(" ", "-"))),
  );
}

export function wireAnswer(): void {
  input("cutoff").addEventListener("input", tell);
  element("save-predictions").addEventListener("click", () => {
    if (current?.answer.predictions) download("predictions.nii.gz", current.answer.predictions, "application/gzip");
  });
  element("save-synthesis").addEventListener("click", () => void savePicture());
  element("save-results").addEventListener("click", () => {
    if (!current) return;
    const results = resultsOf({ ...current.answer.prediction, decision: decision(), native: null }, `${software} (browser)`, current.names);
    download("results.json", JSON.stringify(results, null, 2), "application/json");
  });
}

async function savePicture(): Promise<void> {
  if (!current) return;
  const { prediction, display } = current.answer;
  const { state } = decision();
  const answer = state.startsWith("mismatch") ? `DWI-FLAIR ${state}` : state;
  const cells = [...element("numbers").children].map((one) => one.textContent ?? "");
  const remarks = [...element("reasons").children].map((one) => one.textContent ?? "");
  const more = remarks.length > MOST_REMARKS ? ["... the rest is in results.json"] : [];
  const picture = await synthesisPng(display, {
    name: prediction.examinationId,
    answer: answer[0].toUpperCase() + answer.slice(1),
    colour: COLOUR[state],
    numbers: cells.flatMap((cell, at) => (at % 2 ? [] : [[cell, cells[at + 1]] as const])),
    remarks: [...remarks.slice(0, MOST_REMARKS), ...more],
    models: `Models: ${prediction.models}.`,
    measured: state !== "not assessable",
  });
  download("synthesis.png", picture, "image/png");
}
