"""Training: the loop, the batches, the processes, the checkpoints and the progress."""
