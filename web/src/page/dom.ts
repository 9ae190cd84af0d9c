export function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

export const input = (id: string): HTMLInputElement => element(id) as HTMLInputElement;

/** A new element with text; texts never become markup. */
export function made(tag: string, content = "", className = ""): HTMLElement {
  const node = document.createElement(tag);
  node.textContent = content;
  if (className) node.className = className;
  return node;
}

export function shown(id: string, visible: boolean): void {
  element(id).hidden = !visible;
}

/** Offer bytes as a file. */
export function download(name: string, content: BlobPart, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
