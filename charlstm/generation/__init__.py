"""Generation of text with a model, character by character."""
