/** The images with what was found in them: NiiVue, axial slices, the patient's right on the left. */

import { Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
import type { Answer } from "../worker.js";
import { element, input } from "./dom.js";

/** Of brain, stroke and FLAIR-visible: `fvv.data.Channel.colour`. */
export const COLOURS = ["#009e73", "#56b4e9", "#d55e00"].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

let view: Niivue | null = null;
let masked = false;

/**
 * Show an examination; opens where most of the stroke is. False, and nothing is shown, where it is not the latest any more
 * once its images are loaded.
 */
export async function show(answer: Answer, isLatest: () => boolean): Promise<boolean> {
  const canvas = element("viewer-canvas") as HTMLCanvasElement;
  if (!view) {
    view = new Niivue({ isRadiologicalConvention: true, dragAndDropEnabled: false, loadingText: "", backColor: [0, 0, 0, 1], crosshairWidth: 0, logLevel: "error" });
    // R and L, A and P at the edges.
    Object.assign(view.opts, { showAllOrientationMarkers: true, fontColor: [1, 1, 1, 1], fontMinPx: 18 });
    await view.attachToCanvas(canvas);
    view.setSliceType(SLICE_TYPE.AXIAL);
    view.onLocationChange = told;
    wire();
  }
  const volumes: NVImage[] = [];
  for (const [name, bytes] of [["b1000", answer.b1000], ["b0", answer.b0], ["masks", answer.masks]] as const)
    if (bytes) volumes.push(await NVImage.loadFromUrl({ url: `${name}.nii`, name: `${name}.nii`, buffer: bytes.slice().buffer }));
  if (!isLatest()) return false;
  masked = answer.masks !== null;
  view.volumes = volumes;
  input("viewer-slice").max = String(depth() - 1);
  look();
  view.setVolume(volumes[0], 0); // All of them at once: each redraws every texture.
  moveTo(fullest() ?? Math.floor(depth() / 2));
  return true;
}

const depth = (): number => (view?.volumes[0].dimsRAS ?? [0, 1, 1, 1])[3];

function refresh(): void {
  look();
  view?.updateGLVolume();
}

/** Which image and which masks are seen. */
function look(): void {
  if (!view) return;
  const b0 = (element("viewer-image") as HTMLSelectElement).value === "b0";
  view.volumes[0].opacity = b0 ? 0 : 1;
  view.volumes[1].opacity = b0 ? 1 : 0;
  if (masked) {
    const shown = [0, 1, 2].map((bit) => input(`viewer-bit-${bit}`).checked);
    const map = { R: [] as number[], G: [] as number[], B: [] as number[], A: [] as number[], I: [] as number[] };
    for (let value = 0; value < 8; value++) {
      const bit = [2, 1, 0].find((one) => shown[one] && (value >> one) & 1);
      const [red, green, blue] = bit === undefined ? [0, 0, 0] : COLOURS[bit];
      map.R.push(red);
      map.G.push(green);
      map.B.push(blue);
      map.A.push(bit === undefined ? 0 : 255);
      map.I.push(value);
    }
    view.volumes[2].setColormapLabel(map);
    view.volumes[2].opacity = Number(input("viewer-opacity").value);
  }
}

/** The slice with most of the stroke; null where there is none. */
function fullest(): number | null {
  if (!view || !masked) return null;
  const masks = view.volumes[2];
  const [, nx, ny, nz] = masks.dimsRAS ?? [];
  const counts = new Array<number>(nz).fill(0);
  const [values] = masks.getVolumeData([0, 0, 0], [nx - 1, ny - 1, nz - 1]);
  for (let at = 0; at < values.length; at++) if (values[at] & 2) counts[Math.floor(at / (nx * ny))]++;
  const most = Math.max(...counts);
  return most ? counts.indexOf(most) : null;
}

function moveTo(slice: number): void {
  if (!view) return;
  const [, nx, ny] = view.volumes[0].dimsRAS ?? [];
  view.scene.crosshairPos = view.vox2frac([(nx - 1) / 2, (ny - 1) / 2, slice]);
  view.drawScene();
  told();
}

function told(): void {
  if (!view) return;
  const slice = Math.round(view.frac2vox(view.scene.crosshairPos)[2]);
  input("viewer-slice").value = String(slice);
  element("viewer-place").textContent = `${slice + 1} of ${depth()}`;
}

function wire(): void {
  for (const id of ["viewer-image", "viewer-bit-0", "viewer-bit-1", "viewer-bit-2", "viewer-opacity"])
    element(id).addEventListener("input", refresh);
  input("viewer-slice").addEventListener("input", () => moveTo(Number(input("viewer-slice").value)));
  element("viewer-canvas").addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, PageUp: 1, ArrowDown: -1, PageDown: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    moveTo(Math.min(Math.max(Number(input("viewer-slice").value) + by, 0), depth() - 1));
  });
}
