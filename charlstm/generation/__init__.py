"""Text from a model, one character at a time."""
