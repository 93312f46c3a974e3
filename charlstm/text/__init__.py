"""A text becomes ids: the vocabulary."""
