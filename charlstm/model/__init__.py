"""The LSTM language model: gates, layers, loss, evaluation protocols and model folder."""
