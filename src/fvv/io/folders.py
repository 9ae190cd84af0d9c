"""The patient folders of a data set: which there are, and what one that is not there may be."""

from __future__ import annotations

import re
from pathlib import Path

from fvv.errors import InputError
from fvv.names import first_alike, is_plain, plain


def list_patients(folder: Path) -> tuple[str, ...]:
    """Names of the patient folders in a data set, sorted; hidden folders are left out.

    A broken link that may stand for a patient's folder is listed too: who reads that patient says what is wrong.

    Raises:
        InputError: the folder is missing or holds no patient; a name cannot be shown on one line, or is the same as
            another's but for upper and lower case or the form of an accent.
    """
    if not folder.is_dir():
        raise InputError("no such folder", file=folder, hint="name the folder that holds one folder per patient")
    try:
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith(".") and _is_patient(item))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=folder) from error
    if not names:
        raise InputError("holds no patient folder", file=folder, hint="expected <patient>/b0.nii.gz and so on")
    for name in names:
        if not is_plain(name):  # Line ends and escape codes in tables and on terminals; bytes that are no text.
            message = f"a folder is named {name!a}"
            raise InputError(message, file=folder, hint="rename it with letters that can be shown")
    if pair := first_alike(names):
        message = f"two folders have the same name but for case or accents: {pair[0]!a} and {pair[1]!a}"
        raise InputError(message, file=folder, hint="rename one: on many disks they are one folder")
    return tuple(names)


def _is_patient(item: Path) -> bool:
    """Whether it is a folder, or a broken link to one: not one named like a file, nor git-annex's, which are files."""
    if item.is_dir() or not item.is_symlink() or item.exists():
        return item.is_dir()
    named_like_a_file = re.search(r"\.[A-Za-z][A-Za-z0-9]*$", item.name) is not None
    return not named_like_a_file and "annex/objects" not in item.readlink().as_posix()


def refuse_missing_folder(folder: Path) -> None:
    """Refuse a patient whose folder is not there, and say why it is not.

    Raises:
        InputError: nothing of that name, a broken link, or a file.
    """
    if folder.is_dir():
        return
    if folder.is_symlink() and not folder.exists():
        hint = "fetch it (for example `datalad get`), or mount the disk it is on"
        raise InputError(f"a broken link to {plain(str(folder.readlink()))}", file=folder, hint=hint)
    if folder.exists():
        raise InputError("expected a folder, found a file", file=folder)
    raise InputError("no such folder", file=folder, hint="is the disk mounted, and the name right?")
