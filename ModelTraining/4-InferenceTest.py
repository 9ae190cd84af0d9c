"""Stage 4: test saved_models_ONNX/ out of fold on preprocessed_data/, into processed_data/ (`fvv evaluate`)."""

import argparse
import sys

from fvv.cli import main

# Worker processes import this file again: nothing may run outside this block.
if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    sys.exit(main(["evaluate"]))
