"""Stage 3: turn the checkpoints of saved_models/ into ONNX models in saved_models_ONNX/ (`fvv convert`).

Without options, the best checkpoint of each fold by validation score is taken. To choose one yourself, write its path
beside its fold in CHOSEN_MODELS below, or use `fvv convert --model 0=PATH`.
"""

import argparse
import sys

from fvv.cli import main

CHOSEN_MODELS: dict[int, str] = {}
"""Fold to checkpoint, as {0: "saved_models/FVV/fold_0/best.ckpt"}; folds not named take their best."""

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle of other models")
    overwrite = ["--overwrite"] if parser.parse_args().overwrite else []
    sys.exit(main(["convert", *overwrite, *(f"--model={fold}={path}" for fold, path in CHOSEN_MODELS.items())]))
