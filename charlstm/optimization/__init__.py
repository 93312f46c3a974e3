"""What moves the weights: optimizers, the learning rate, the moving average."""
