"""Weight updates: optimizers, learning-rate schedule, moving average."""
