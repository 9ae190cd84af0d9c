/** A folder that `fvv convert` wrote, checked before it is used (`fvv.io.bundle`, `fvv.schemas.bundle`). */

import { type Calibration, FvvError, type Manifest, type PostprocessConfig, type Profile } from "./data.js";
import type { Bundle } from "./ensemble.js";
import { plain } from "./dicom/plain.js";

export interface BundleFile {
  readonly name: string;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

const FILE = "bundle.json";
/** Of `fvv.schemas.migrations.CURRENT`: an older one lacks nothing that is used here. */
const NEWEST = 3;
const MAX_MANIFEST = 2 ** 26;
const MAX_MODEL = 2 ** 30;
const PROFILE: Profile = {
  name: "",
  mask_method: "",
  outlier_robust_zscore: false,
  scale_mask: "brain",
  orientation: "as-stored",
  grid_size: 256,
  clip: 10,
  zscore_dtype: "float16",
  context_slices: 3,
};
/** What the engine can do of each choice. */
const KNOWN: Readonly<Record<string, readonly unknown[]>> = {
  scale_mask: ["brain", "robust"],
  orientation: ["as-stored", "ras"],
  zscore_dtype: ["float16", "float32"],
  context_slices: [3],
};
const PROFILES = ["reference-v1", "robust-v1", "robust-v2", "robust-v3"];
const MASKS = ["robust", "otsu"];
const POSTPROCESS: PostprocessConfig = {
  minimum_lesion_mm3: 0,
  visible_logit: 0,
  minimum_visible_share: 0,
  minimum_core_mm3: 0,
  core_logit: 3,
  maximum_relative_adc: null,
  minimum_mirror_drop: null,
  certain_logit: 4,
  certain_core_mm3: 0,
  late_core_mm3: null,
  late_contrast: 1.5,
  satellite_core_mm3: null,
};
const CALIBRATION: Calibration = { intercept: 0, slope: 0, pseudo_volume_ml: 0, lowest: 0, highest: 1, fitted_on: "unknown", prevalence: null };

type Fields = Readonly<Record<string, unknown>>;

/** Read and check the files of a folder; refused in one sentence: what is missing, changed or not known here. */
export async function readBundle(files: readonly BundleFile[]): Promise<Bundle> {
  const named = new Map(files.map((file) => [file.name, file]));
  const found = named.get(FILE);
  if (!found) throw new FvvError(`${FILE} is not among these files`, "give the folder that `fvv convert` wrote");
  const manifest = manifestOf(await parsed(found));
  const models: Uint8Array<ArrayBuffer>[] = [];
  for (const { file, sha256 } of manifest.models) {
    const bytes = await named.get(file)?.bytes();
    if (!bytes) throw new FvvError(`${plain(file)}: missing from the bundle`, "give the whole folder");
    if (bytes.length > MAX_MODEL) throw new FvvError(`${plain(file)}: over the largest model read here`);
    if ((await sha256Of(bytes)) !== sha256)
      throw new FvvError(`${plain(file)}: changed since it was converted: its hash differs from ${FILE}`, "convert the models again, or copy the folder again");
    models.push(bytes);
  }
  return { manifest, models };
}

async function parsed(file: BundleFile): Promise<Fields> {
  const bytes = await file.bytes();
  try {
    if (bytes.length > MAX_MANIFEST) throw new Error("too large");
    return fieldsOf(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)), "");
  } catch (error) {
    throw error instanceof FvvError ? error : unknown("it is no JSON");
  }
}

async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (!globalThis.crypto?.subtle) throw new FvvError("the models' hashes cannot be computed here", "open this page from a disk or over https");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (one) => one.toString(16).padStart(2, "0")).join("");
}

const unknown = (why: string, hint = ""): FvvError => new FvvError(`${FILE}: not a bundle this page reads: ${why}`, hint);

/** What a bundle.json says, with the defaults of fields that older ones lack. */
export function manifestOf(content: Fields): Manifest {
  const version = content.schema_version;
  if (!Number.isInteger(version)) throw unknown(`schema_version: expected a whole number, found ${plain(JSON.stringify(version) ?? "nothing")}`);
  if ((version as number) > NEWEST)
    throw new FvvError(`${FILE} of a newer version: schema_version ${String(version)}, this page reads up to ${NEWEST}`, "use a newer page");
  const { mask_command: _, ...given } = fieldsOf(content.profile, "profile");
  const profile = filled(PROFILE, given, "profile", ["name", "mask_method", "outlier_robust_zscore"]);
  if (!PROFILES.includes(profile.name)) throw unknown(`made for profile ${plain(profile.name)}, known are ${PROFILES.join(", ")}`);
  if (!MASKS.includes(profile.mask_method))
    throw new FvvError(`the models ask for brain masks by ${plain(profile.mask_method)}; in a browser there are ${MASKS.join(" and ")}`, "use `fvv predict`");
  for (const [field, choices] of Object.entries(KNOWN)) {
    const value = profile[field as keyof Profile];
    if (!choices.includes(value)) throw unknown(`profile.${field} is ${plain(String(value))}, known are ${choices.join(", ")}`);
  }
  if (profile.grid_size < 64 || profile.grid_size > 1024 || !Number.isInteger(profile.grid_size)) throw unknown("profile.grid_size: expected 64 to 1024");
  const postprocess = { ...fieldsOf(content.postprocess ?? {}, "postprocess") };
  // Strokes without an ADC had a limit of their own.
  if ((version as number) < 3) delete postprocess.core_without_adc_mm3;
  return {
    schema_version: NEWEST,
    software: textOf(content.software, "software"),
    run_name: textOf(content.run_name, "run_name"),
    notice: content.notice === undefined ? "" : textOf(content.notice, "notice"),
    profile,
    calibration: content.calibration ? calibrationOf(fieldsOf(content.calibration, "calibration")) : null,
    intensity_range: rangesOf(fieldsOf(content.intensity_range ?? {}, "intensity_range")),
    postprocess: filled(POSTPROCESS, postprocess, "postprocess"),
    models: modelsOf(content.models),
  };
}

function calibrationOf({ patients: _, ...given }: Fields): Calibration {
  const curve = filled(CALIBRATION, given, "calibration", ["intercept", "slope", "pseudo_volume_ml"]);
  if (!(curve.pseudo_volume_ml > 0)) throw unknown("calibration.pseudo_volume_ml: expected a number over 0");
  return curve;
}

function rangesOf(given: Fields): Record<string, [number, number]> {
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => {
      if (!Array.isArray(value) || value.length !== 2 || !value.every(Number.isFinite)) throw unknown(`intensity_range.${plain(name)}: expected two numbers`);
      return [name, [Number(value[0]), Number(value[1])]];
    }),
  );
}

function modelsOf(given: unknown): { file: string; sha256: string }[] {
  if (!Array.isArray(given) || !given.length) throw unknown("it names no model");
  const models = given.map((one: unknown, at) => fieldsOf(one, `models.${at}`));
  const folds = models.map(({ fold }) => fold).filter((fold) => fold !== null && fold !== undefined);
  if (new Set(folds).size !== folds.length) throw unknown(`expected one model per fold, it has folds ${folds.join(", ")}`);
  return models.map(({ file, sha256 }, at) => {
    const name = textOf(file, `models.${at}.file`);
    if (/[\\/]/.test(name)) throw unknown(`file ${plain(name)} lies outside the bundle`);
    return { file: name, sha256: textOf(sha256, `models.${at}.sha256`) };
  });
}

/** The fields of a template, each given or by default; a field that is not known might change the answer. */
function filled<T extends object>(template: T, given: Fields, where: string, required: readonly string[] = []): T {
  const defaults = template as Fields;
  for (const name of Object.keys(given)) if (!(name in defaults)) throw unknown(`${where}.${plain(name)} is not known here`, "use a newer page, or `fvv predict`");
  for (const name of required) if (given[name] === undefined) throw unknown(`${where}.${name} is missing`);
  for (const [name, value] of Object.entries(given)) {
    const normal = defaults[name];
    const fits = normal === null ? value === null || typeof value === "number" : typeof value === typeof normal;
    if (!fits || (typeof value === "number" && !Number.isFinite(value))) throw unknown(`${where}.${name}: ${plain(JSON.stringify(value))}`);
  }
  return { ...template, ...given } as T;
}

function fieldsOf(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw unknown(where ? `${where} is missing` : "it holds no fields");
  return value as Fields;
}

function textOf(value: unknown, where: string): string {
  if (typeof value !== "string") throw unknown(`${where} is missing`);
  return plain(value);
}
