"""The LSTM: gates, layers, the character model, its loss, and its folder on disk."""
