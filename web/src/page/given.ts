/** What a visitor gives: files, folders, or both, dropped or chosen. */

import { FvvError } from "../engine/data.js";

/** A file and its path in what was given. */
export interface Given {
  readonly path: string;
  readonly blob: File;
}

export const chosenFiles = (files: Iterable<File>): Given[] => [...files].map((blob) => ({ path: blob.webkitRelativePath || blob.name, blob }));

/** The files of a drop, and those in its folders. What is dropped must be asked for at once, before anything is awaited. */
export async function droppedFiles(transfer: DataTransfer | null): Promise<Given[]> {
  const files = chosenFiles(transfer?.files ?? []);
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
  const folders = entries.filter((entry) => entry?.isDirectory) as FileSystemDirectoryEntry[];
  const names = new Set(folders.map(({ name }) => name));
  const alone = files.filter(({ path }) => !names.has(path));
  try {
    return [...alone, ...(await Promise.all(folders.map(inFolder))).flat()];
  } catch {
    throw new FvvError("This browser does not let a page opened from a disk read a dropped folder", "use the button that chooses a folder");
  }
}

async function inFolder(folder: FileSystemDirectoryEntry): Promise<Given[]> {
  const reader = folder.createReader();
  const found: Given[] = [];
  for (;;) {
    // A hundred at a time, until there are none.
    const some = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const entry of some)
      if (entry.isDirectory) found.push(...(await inFolder(entry as FileSystemDirectoryEntry)));
      else {
        const blob = await new Promise<File>((done, failed) => (entry as FileSystemFileEntry).file(done, failed));
        found.push({ path: entry.fullPath.replace(/^\//, ""), blob });
      }
  }
}
