"""Stage 1: read, mask, normalise and store every patient of input_data/ into preprocessed_data/ (`fvv prepare`)."""

import argparse
import sys

from fvv.cli import main

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("-k", "--kfolds", type=int, default=10, help="Number of kfolds (default: 10)")
    parser.add_argument(
        "-v",
        "--valid_proportion",
        type=float,
        default=0.2,
        help="Proportion of valid/train in each fold (default: 0.2)",
    )
    given = parser.parse_args()
    sys.exit(main(["prepare", f"--kfolds={given.kfolds}", f"--valid-proportion={given.valid_proportion}"]))
