"""Public interface to a trained model: texts, scores and states."""
