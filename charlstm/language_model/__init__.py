"""A trained model, as those use it who only want to use it: texts, scores, states."""
