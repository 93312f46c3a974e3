"""Pictures of losses, as PNG files."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from charlstm.evaluation.published import ORIGINAL_VAL_NATS_PER_CHAR
from charlstm.storage.files import atomic_file


def plot_losses(path: Path, steps: pd.DataFrame, epochs: pd.DataFrame, *, compare_with_original: bool) -> None:
    """The loss curves as a PNG: training by step, validation by epoch, and the original's published validation."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps_per_epoch = epochs["step"].iloc[0]
    axes.plot(steps["step"] / steps_per_epoch, steps["train_nats_per_char"], color="tab:blue", lw=1, label="training")
    axes.plot(epochs["epoch"], epochs["val_nats_per_char"], "o-", color="tab:orange", label="validation")
    if compare_with_original:
        published = range(1, len(ORIGINAL_VAL_NATS_PER_CHAR) + 1)
        label = "validation, the original's published 2×256\n(sliding_100; its epochs read the text 100 times)"
        axes.plot(published, ORIGINAL_VAL_NATS_PER_CHAR, "s--", color="tab:gray", label=label)
    lowest = min(steps["train_nats_per_char"].min(), epochs["val_nats_per_char"].min())
    axes.set(xlabel="epoch", ylabel="loss (nats per character)", ylim=(lowest - 0.1, lowest + 1.0))
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})
