"""Interpretation of single cells of a trained model by labels of the text."""
