/** `synthesis.png`: the answer and the slices with stroke on one picture, as `fvv predict` makes it (`fvv.analysis.sheet`). */

import { boundingBox, type Box, layerCounts, type Mask, rint } from "../engine/arrays.js";
import { type Display, WINDOW_RULE } from "../engine/display.js";
import { COLOURS } from "./viewer.js";

const [WIDTH, WIDE] = [1400, 2000];
const ONE_IN_A_ROW = 8;
const WITHOUT_STROKE = 16;
const MARGIN_MM = 5;
const SCALE_MM = 20;
const [MARGIN, GAP, LINE] = [28, 8, 24];
const [INK, SOFT, NOTICE] = ["#1d2733", "#4d5a68", "#a3162e"];
const RESEARCH_USE = "For research use only. Not for clinical decisions.";

/** Texts of the picture, as the page shows them. */
export interface Words {
  readonly name: string;
  readonly answer: string;
  readonly colour: string;
  readonly numbers: readonly (readonly [string, string])[];
  readonly remarks: readonly string[];
  readonly models: string;
  readonly measured: boolean;
}

/** Draw the picture. */
export async function synthesisPng(display: Display, words: Words): Promise<Blob> {
  const stroke = bitOf(display, 2);
  const { shown, caption } = slicesToShow(stroke, words.measured);
  const panels = panelsOf(display, words.measured);
  const inARow = shown.length <= ONE_IN_A_ROW ? 1 : 2;
  const width = inARow === 1 ? WIDTH : WIDE;
  const box = boundingBox(bitOf(display, 1), display.spacingMm.map((edge, axis) => (axis < 2 ? Math.ceil(MARGIN_MM / edge) : 0)) as [number, number, number]);
  const [ni, nj] = [0, 1].map((axis) => (box[axis][1] - box[axis][0]) * display.spacingMm[axis]);
  const panelWidth = Math.floor((width - 2 * MARGIN - GAP * (inARow * panels.length - 1)) / (inARow * panels.length));
  const panelHeight = Math.max(1, Math.round((panelWidth * nj) / ni));
  const head = lines(words, caption, width);
  const top = MARGIN + head.length * LINE + LINE;
  const rows = Math.ceil(shown.length / inARow);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = top + rows * (panelHeight + LINE + GAP) + 2 * LINE;
  const page = canvas.getContext("2d");
  if (!page) throw new Error("this browser draws no picture");
  page.fillStyle = "#ffffff";
  page.fillRect(0, 0, canvas.width, canvas.height);
  head.forEach(({ text, font, colour }, at) => write(page, text, MARGIN, MARGIN + at * LINE + (font === HUGE ? 8 : 16), font, colour));
  write(page, RESEARCH_USE, width - MARGIN, MARGIN + 16, BOLD, NOTICE, "right");
  shown.forEach((k, place) => {
    const y = top + Math.floor(place / inARow) * (panelHeight + LINE + GAP);
    const x = MARGIN + (place % inARow) * panels.length * (panelWidth + GAP);
    const ofSlice = `slice ${k + 1} of ${display.shape[2]}`;
    panels.forEach(({ name, grey, outlined }, at) => {
      const left = x + at * (panelWidth + GAP);
      drawSlice(page, display, grey, k, box, [left, y + LINE, panelWidth, panelHeight], outlined);
      write(page, at ? name : `${name}, ${ofSlice}`, left, y + 17, SMALL, SOFT);
    });
  });
  write(page, `${words.models} ${RESEARCH_USE}`, MARGIN, canvas.height - LINE, SMALL, SOFT);
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("this browser makes no PNG"))), "image/png"));
}

const FAMILY = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const [SMALL, BODY, BOLD, HUGE] = [`14px ${FAMILY}`, `16px ${FAMILY}`, `bold 16px ${FAMILY}`, `bold 26px ${FAMILY}`];

interface Panel {
  readonly name: string;
  readonly grey: Uint8Array;
  readonly outlined: boolean;
}

/** b1000 plain, b1000 with outlines, and the other images. */
function panelsOf({ grey }: Display, measured: boolean): Panel[] {
  return grey.flatMap(([name, values]) => [
    { name, grey: values, outlined: false },
    ...(name === "b1000" && measured ? [{ name: "b1000 with outlines", grey: values, outlined: true }] : []),
  ]);
}

interface Line {
  readonly text: string;
  readonly font: string;
  readonly colour: string;
}

function lines(words: Words, caption: string, width: number): Line[] {
  const body = (text: string, colour = INK): Line[] => wrapped(text, width).map((one) => ({ text: one, font: BODY, colour }));
  return [
    { text: `FLAIR Visibility Volume: ${words.name}`, font: BODY, colour: SOFT },
    { text: "", font: SMALL, colour: SOFT },
    { text: words.answer, font: HUGE, colour: words.colour },
    ...(words.measured ? [] : body("No volume is given: the images could not be measured.")),
    ...(words.measured ? words.numbers.flatMap(([name, value]) => body(`${name}: ${value}`)) : []),
    ...words.remarks.flatMap((one) => body(one, SOFT)),
    ...(words.measured ? [{ text: "Outlines: brain green, stroke blue, FLAIR-visible (half or more of the models) red, any model dotted.", font: SMALL, colour: SOFT }] : []),
    ...wrapped(`${caption} b1000, axial. R: the patient's right. L: the patient's left. ${WINDOW_RULE}`, 1.15 * width).map((text) => ({ text, font: SMALL, colour: SOFT })),
  ];
}

/** About eight pixels a letter. */
function wrapped(text: string, width: number): string[] {
  const most = Math.floor((width - 2 * MARGIN) / 8);
  const found: string[] = [""];
  for (const word of text.split(" ")) {
    const last = found[found.length - 1];
    if (last && last.length + word.length >= most) found.push(word);
    else found[found.length - 1] = last ? `${last} ${word}` : word;
  }
  return found;
}

function write(page: CanvasRenderingContext2D, text: string, x: number, y: number, font: string, colour: string, align: CanvasTextAlign = "left"): void {
  Object.assign(page, { font, fillStyle: colour, textAlign: align, textBaseline: "alphabetic" });
  page.fillText(text, x, y);
}

function bitOf({ masks, shape }: Display, bit: number): Mask {
  return { data: masks.map((value) => (value & bit ? 1 : 0)), shape };
}

/** Slices from foot to head, and the sentence that says how they were chosen. */
export function slicesToShow(stroke: Mask, measured: boolean): { shown: number[]; caption: string } {
  const areas = layerCounts(stroke, 2);
  const withStroke = [...areas.keys()].filter((k) => areas[k]);
  const n = stroke.shape[2];
  const cut = Math.floor(n / 10);
  const inner = Array.from({ length: n - 2 * cut }, (_, at) => cut + at);
  const most = Math.min(WITHOUT_STROKE, inner.length);
  const evenly = Array.from({ length: most }, (_, at) => inner[rint(most > 1 ? (at * (inner.length - 1)) / (most - 1) : 0)]);
  if (!measured) return { shown: evenly, caption: "Evenly spaced slices; nothing was measured." };
  if (!withStroke.length) return { shown: evenly, caption: "No stroke was found: evenly spaced slices." };
  return { shown: withStroke, caption: `All ${withStroke.length} slices with stroke, from foot to head.` };
}

type Place = readonly [number, number, number, number];

/** One slice: the patient's right on the left, the front up. */
function drawSlice(page: CanvasRenderingContext2D, display: Display, grey: Uint8Array, k: number, box: Box, place: Place, outlined: boolean): void {
  const [, nj, nk] = display.shape;
  const [columns, rows] = [box[0][1] - box[0][0], box[1][1] - box[1][0]];
  const at = (column: number, row: number): number => ((box[0][1] - 1 - column) * nj + box[1][1] - 1 - row) * nk + k;
  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let row = 0, n = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const value = grey[at(column, row)];
      for (let channel = 0; channel < 3; channel++) image.data[n++] = value;
      image.data[n++] = 255;
    }
  small.getContext("2d")?.putImageData(image, 0, 0);
  const [left, top, width, height] = place;
  page.imageSmoothingEnabled = true;
  page.drawImage(small, left, top, width, height);
  if (outlined) {
    const inside = (bit: number) => (column: number, row: number): boolean =>
      column >= 0 && row >= 0 && column < columns && row < rows && (display.masks[at(column, row)] & bit) > 0;
    for (const [bit, colour, dashes] of [[1, 0, []], [2, 1, []], [8, 2, [2, 3]], [4, 2, []]] as const)
      outline(page, inside(bit), columns, rows, place, `rgb(${COLOURS[colour].join(" ")})`, dashes);
  }
  for (const [letter, x, align] of [["R", left + 5, "left"], ["L", left + width - 5, "right"]] as const) {
    Object.assign(page, { font: BOLD, textAlign: align, strokeStyle: "#000000", lineWidth: 4, lineJoin: "round" });
    page.strokeText(letter, x, top + height / 2);
    write(page, letter, x, top + height / 2, BOLD, "#ffffff", align);
  }
  const bar = (SCALE_MM / (columns * display.spacingMm[0])) * width;
  page.fillStyle = "#ffffff";
  page.fillRect(left + 8, top + height - 10, bar, 3);
  write(page, `${SCALE_MM} mm`, left + 8, top + height - 15, SMALL, "#ffffff");
}

/** Lines where the mask ends. */
function outline(page: CanvasRenderingContext2D, inside: (column: number, row: number) => boolean, columns: number, rows: number, place: Place, colour: string, dashes: readonly number[]): void {
  const [left, top, width, height] = place;
  const x = (column: number): number => left + (column * width) / columns;
  const y = (row: number): number => top + (row * height) / rows;
  page.beginPath();
  for (let row = 0; row <= rows; row++)
    for (let column = 0; column <= columns; column++) {
      const here = inside(column, row);
      if (here !== inside(column - 1, row)) {
        page.moveTo(x(column), y(row));
        page.lineTo(x(column), y(row + 1));
      }
      if (here !== inside(column, row - 1)) {
        page.moveTo(x(column), y(row));
        page.lineTo(x(column + 1), y(row));
      }
    }
  Object.assign(page, { strokeStyle: colour, lineWidth: 1.5 });
  page.setLineDash([...dashes]);
  page.stroke();
  page.setLineDash([]);
}
