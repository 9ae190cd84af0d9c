/** Text from outside on one line of printable characters (`fvv.names.plain`). */
export function plain(text: string): string {
  return text.replace(/[\p{C}\p{Z}]/gu, (one) => {
    if (one === " ") return one;
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[one];
    const code = one.codePointAt(0) ?? 0;
    const [mark, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return short ?? `\\${mark}${code.toString(16).padStart(digits as number, "0")}`;
  });
}
