"""charlstm: character-level LSTM training, from bytes to samples. Start at `dvc.yaml`, then `model/char_lstm.py`."""
