"""Stage 5: segment new patients with saved_models_ONNX/; results lie beside their images (`fvv predict`)."""

import argparse
import sys

from fvv.cli import main

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "-d", "--inference_dir", default="input_data/", help="Folder of patients (default: input_data/)"
    )
    parser.add_argument(
        "-f",
        "--favorite",
        type=str.upper,
        choices=["GPU", "CPU"],
        default="GPU",
        help="Where to compute; without a GPU the CPU is used (default: GPU)",
    )
    given = parser.parse_args()
    sys.exit(main(["predict", f"--input={given.inference_dir}", f"--device={given.favorite.lower()}"]))
