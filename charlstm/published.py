"""Published losses on tiny Shakespeare, for comparison; they say nothing about any other corpus."""

from typing import NamedTuple

import pandas as pd

TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Published(NamedTuple):
    """A validation loss under one of our protocols, and who reported it."""

    protocol: str
    system: str
    nats_per_char: float


# The seed (https://github.com/tusharip/NLP at 07de339, LSTM/training_log.txt): 2 x 256 LSTM, stride-1 windows of 100,
# Adam 1e-3, 5 epochs; training and validation loss after each, by its own measure (`charlstm.evaluate.sliding`).
SEED_TRAIN_NATS_PER_CHAR = (1.6597, 1.3996, 1.3330, 1.2937, 1.2665)
SEED_VAL_NATS_PER_CHAR = (1.6052, 1.5432, 1.5285, 1.5252, 1.5290)

PUBLISHED = (
    Published("windowed_100", "the seed, 2x256 LSTM, best of 5 epochs (its sliding_100)", min(SEED_VAL_NATS_PER_CHAR)),
    # nanoGPT's README; it draws random windows of 256, whose expectation is that of windowed_256
    Published("windowed_256", "nanoGPT, 10.7 M parameters, one A100, 3 min", 1.4697),
)


def beside_the_seed(history: pd.DataFrame) -> pd.DataFrame:
    """Our losses per epoch with the seed's published ones beside them (empty past its 5 epochs)."""
    seed = pd.DataFrame(
        {
            "epoch": range(1, len(SEED_VAL_NATS_PER_CHAR) + 1),
            "seed_train_nats_per_char": SEED_TRAIN_NATS_PER_CHAR,
            "seed_val_nats_per_char": SEED_VAL_NATS_PER_CHAR,
        }
    )
    ours = history[["epoch", "train_nats_per_char", "val_nats_per_char"]]
    return ours.merge(seed, on="epoch", how="outer").sort_values("epoch")
