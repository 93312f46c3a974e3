"""The training loop, with its batches, processes, checkpoints and records."""
