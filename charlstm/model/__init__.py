"""The LSTM: gates, layers, character model, loss and model folder."""
