"""The only code that imports torch: network, losses, data loading, the training loop, export."""

import os

# Threads of OpenMP spin while they wait for each other, which takes the processor from whoever else uses the machine:
# beside eight busy processes on two cores a training step took 2.3 times as long (docs/explanation/network.md). Torch's
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
