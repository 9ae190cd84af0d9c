/** The answer in words, as `fvv predict` gives it, and at another cut-off at once. */

import type { Decision } from "../engine/data.js";
import { decideAgain, formatMl } from "../engine/decision.js";
import { fixed, general } from "../engine/format.js";
import { resultsOf } from "../engine/results.js";
import type { Answer } from "../worker.js";
import { download, element, input, made, shown } from "./dom.js";
import { bundle } from "./parts.js";

const MEANING: Readonly<Record<string, string>> = {
  "mismatch likely": "Little of the stroke is visible on FLAIR.",
  "mismatch unlikely": "The stroke is visible on FLAIR.",
  "no lesion found": "The models found no acute stroke.",
  "not assessable": "The images cannot be judged; no volume is given.",
};
let current: { answer: Answer; names: Readonly<Record<string, string>> } | null = null;

export function showAnswer(answer: Answer, names: Readonly<Record<string, string>>): void {
  current = { answer, names };
  input("cutoff").value = String(answer.prediction.decision.cutoffMl);
  shown("answer", true);
  for (const id of ["save-predictions", "cutoff-line"]) shown(id, answer.predictions !== null);
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
  if (prediction.mismatchProbability !== null)
    rows.push(["P(mismatch)", `${fixed(prediction.mismatchProbability, 2)} (fitted on: ${bundle.manifest.calibration?.fitted_on ?? "unknown"})`]);
  if (prediction.lesionAdc)
    rows.push(["ADC in the stroke", `median ${fixed(prediction.lesionAdc[0], 0)} x 10^-6 mm^2/s, ${fixed(prediction.lesionAdc[2], 2)} of the brain's`]);
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
  element("save-results").addEventListener("click", () => {
    if (!current) return;
    const results = resultsOf({ ...current.answer.prediction, decision: decision(), native: null }, `${bundle.software} (browser)`, current.names);
    download("results.json", JSON.stringify(results, null, 2), "application/json");
  });
}
