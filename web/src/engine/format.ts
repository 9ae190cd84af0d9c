/** Numbers in sentences, as Python writes them. */

/** "{:.2f}": as `toFixed`, but what lies exactly between two numbers goes to the even one. */
export function fixed(x: number, decimals: number): string {
  const halves = Math.abs(x) * 2 ** (decimals + 1);
  if (!Number.isInteger(halves) || halves % 2 === 0) return x.toFixed(decimals);
  const scale = 10 ** decimals;
  const below = Math.floor(Math.abs(x) * scale);
  return ((Math.sign(x) * (below + (below % 2))) / scale).toFixed(decimals);
}

/** "{:.1%}" */
export const percent = (x: number, decimals = 0): string => `${fixed(100 * x, decimals)}%`;

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
