"""One cohort of several simulated ones, for `fvv prepare`: links to their examinations and one participants.tsv.

    python experiments/join_cohorts.py NAME=FOLDER [NAME=FOLDER ...] -o COHORT

Every examination is named NAME_<its name>, so that sim_0001 of two cohorts stay two; persons keep their names, which
hold the seed of their cohort. The same command again brings the links up to date.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.io.tables import read_table, write_table


def join(cohorts: Mapping[str, Path], output: Path) -> int:
    """Link the examinations of all cohorts; gives how many there are.

    Raises:
        InputError: a cohort has no participants.tsv.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for prefix, cohort in cohorts.items():
        for row in read_table(cohort / PARTICIPANTS_FILE):
            name = f"{prefix}_{row['participant_id']}"
            link, target = output / name, (cohort / row["participant_id"]).resolve()
            if link.is_symlink() and link.readlink() != target:
                link.unlink()
            if not link.is_symlink():
                link.symlink_to(target, target_is_directory=True)
            rows.append({**row, "participant_id": name})
    for link in output.iterdir():
        if link.is_symlink() and link.name not in {row["participant_id"] for row in rows}:
            link.unlink()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_table(output / PARTICIPANTS_FILE, [{name: row.get(name, "n/a") for name in columns} for row in rows])
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", nargs="+", metavar="NAME=FOLDER", help="cohorts of fvv simulate")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of links")
    options = parser.parse_args()
    pairs = (text.partition("=") for text in options.cohorts)
    print(f"{join({name: Path(folder) for name, _, folder in pairs}, options.output)} examinations: {options.output}")


if __name__ == "__main__":
    main()
