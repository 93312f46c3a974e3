"""The training loop: steps, processes, checkpoints, what is recorded."""
