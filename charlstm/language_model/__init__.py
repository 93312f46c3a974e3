"""A trained model for its users: texts, scores, states."""
