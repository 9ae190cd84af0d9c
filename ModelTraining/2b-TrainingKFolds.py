"""Stage 2b: train every fold of preprocessed_data/ into saved_models/ (`fvv train --all-folds`)."""

import argparse
import sys

from fvv.cli import main
from fvv.cli.options import truth

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("-n", "--name", default="FVV", help="Name for the experiment/run (default: FVV)")
    parser.add_argument(
        "-ram",
        "--preload_RAM",
        nargs="?",
        const=True,
        default=False,
        type=truth,
        help="Preload data into RAM (default: False)",
    )
    parser.add_argument("-w", "--wandb_project", default="FVV", help="Weights & Biases project (default: FVV)")
    given = parser.parse_args()
    sys.exit(
        main(
            [
                "train",
                "--all-folds",
                f"--name={given.name}",
                f"--set=train.preload_ram={given.preload_RAM}",
                f"--wandb-project={given.wandb_project}",
            ]
        )
    )
