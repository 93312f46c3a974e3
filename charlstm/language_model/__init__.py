"""Public interface to a trained model: generated texts, scores and states."""
