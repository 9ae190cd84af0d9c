"""`python -m fvv VERB`, the same as `fvv VERB`."""

import sys

from fvv.cli import main

if __name__ == "__main__":
    sys.exit(main())
