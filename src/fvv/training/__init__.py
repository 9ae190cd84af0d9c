"""The only code that imports torch: network, losses, data loading, the training loop, export."""
