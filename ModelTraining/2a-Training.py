"""Stage 2a: train one fold of preprocessed_data/ into saved_models/ (`fvv train --fold K`)."""

import argparse
import sys

from fvv.cli import main
from fvv.cli.options import truth

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("-k", "--kfold", type=int, default=0, help="Fold index (default: 0)")
    parser.add_argument("-n", "--name", default="FVV", help="Name for the experiment/run (default: FVV)")
    parser.add_argument(
        "-d", "--debug", nargs="?", const=True, default=False, type=truth, help="Debug mode (default: False)"
    )
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
                f"--fold={given.kfold}",
                f"--name={given.name}",
                f"--set=train.debug={given.debug}",
                f"--set=train.preload_ram={given.preload_RAM}",
                f"--wandb-project={given.wandb_project}",
            ]
        )
    )
