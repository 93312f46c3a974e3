"""What generate, score and info do with a trained model."""
