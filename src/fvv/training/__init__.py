"""The only code that imports torch: network, losses, data loading, the training loop, export."""

import os

# Threads of OpenMP that wait for each other spin, by default 300,000 times, which takes the processor from whoever else
# uses the machine. Spinning 10,000 times costs an idle machine nothing and nearly halves a step on a busy one
# (docs/explanation/network.md). GNU's OpenMP, which torch brings on Linux, reads this when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
