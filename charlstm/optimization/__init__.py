"""Weight updates: the optimizers, the learning-rate schedule and the moving average."""
