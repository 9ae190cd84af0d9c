/** Numbers in sentences, as Python writes them. */

export const fixed = (x: number, decimals: number): string => x.toFixed(decimals);

/** "{:.1%}" */
export const percent = (x: number, decimals = 0): string => `${(100 * x).toFixed(decimals)}%`;

/** "{:g}", or with `digits` "{:.3g}". */
export function general(x: number, digits = 6): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x < 0 ? "-inf" : "inf";
  if (x === 0) return "0";
  const [mantissa, power] = x.toExponential(digits - 1).split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= digits) {
    const shown = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${shown}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const shown = x.toFixed(Math.max(0, digits - 1 - exponent));
  return shown.includes(".") ? shown.replace(/\.?0+$/, "") : shown;
}
