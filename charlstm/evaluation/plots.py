"""Plots of losses: PNG files, and SVG elements for pages."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from charlstm.evaluation.results import LossCurves
from charlstm.files.atomic import atomic_file

# This project began with a model from https://github.com/tusharip/NLP (commit 07de339).
# The original, a 2 x 256 LSTM, was trained by Adam (1e-3) on stride-1 windows of 100 characters.
# The original's LSTM/training_log.txt contains the validation loss after each of 5 epochs.
# The protocol of these losses is `sliding_100` (`charlstm.model.protocols.sliding`).
# The original validation text is the last 10 % of tiny Shakespeare's characters.
ORIGINAL_VAL_SHA256 = "c54f3753a4e6e3c3d1759212815a7caf826e68a33021b25312984400bed40a1f"  # as UTF-8
ORIGINAL_VAL_NATS_PER_CHAR = (1.6052, 1.5432, 1.5285, 1.5252, 1.5290)
# Ten colors that are easy to distinguish on white and on black.
COLORS = (
    "#3b82c4", "#d9822b", "#3f9c6b", "#c2504c", "#8a6fc0",
    "#96704f", "#cf6aa8", "#7d8590", "#a8a030", "#2fa3ad",
)  # fmt: skip
MAX_PANELS = 9
INK = "#010203"  # placeholder for the page's text color
# Ignore the user's matplotlib style, so that plots are byte-identical on every machine.
default_style = matplotlib.style.context("default", after_reset=True)


@default_style
def plot_losses(
    path: Path, steps: pd.DataFrame, epochs: pd.DataFrame, *, compare_with_original: bool
) -> None:
    """Plot the training loss by step and the validation loss by epoch, and save a PNG file.

    With `compare_with_original`, the plot includes the original model's validation losses.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    train = steps["train_nats_per_char"]
    val = epochs["val_nats_per_char"]
    x = steps["step"] / epochs["step"].iloc[0]
    axes.plot(x, train, color="tab:blue", lw=1, label="training")
    axes.plot(epochs["epoch"], val, "o-", color="tab:orange", label="validation")
    if compare_with_original:
        published = range(1, len(ORIGINAL_VAL_NATS_PER_CHAR) + 1)
        label = (
            "validation, the original's published 2×256\n"
            "(sliding_100; its epochs read the text 100 times)"
        )
        axes.plot(published, ORIGINAL_VAL_NATS_PER_CHAR, "s--", color="tab:gray", label=label)
    lowest = min(train.min(), val.min())
    axes.set(xlabel="epoch", ylabel="loss (nats per character)", ylim=(lowest - 0.1, lowest + 1.0))
    axes.grid(alpha=0.3)
    axes.legend()
    _write_png(path, figure)


@default_style
def _write_png(path: Path, figure: Figure) -> None:
    with atomic_file(path) as temporary:
        # Omit Matplotlib's version, which would change the bytes of the file.
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})


@default_style
def losses_svg(curves: Sequence[LossCurves]) -> Markup:
    """Return an `<svg>` element with the loss curves of at most ten models.

    Each model has its own color from `COLORS`, with the training curve in a fainter shade. Numbers
    and axis labels use the color and font of the page. There is no legend.
    """
    # The SVG font type "none" keeps labels as text, so that they use the font of the page.
    with matplotlib.rc_context({"svg.hashsalt": "charlstm", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for color, curve in zip(COLORS, curves, strict=False):
            axes.plot(*_columns(curve.training), color=color, lw=1, alpha=0.5)
            axes.plot(*_columns(curve.validation), "o-", color=color, ms=4)
        if losses := [y for curve in curves for _, y in (*curve.training, *curve.validation)]:
            axes.set_ylim(min(losses) - 0.05, min(losses) + 1.0)
        axes.set_xlabel("epoch", color=INK)
        axes.set_ylabel("nats per character", color=INK)
        axes.tick_params(colors=INK)
        axes.grid(color=INK, alpha=0.12)
        axes.spines[:].set_color(INK)
        axes.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(written, format="svg", transparent=True, metadata=metadata)

    # Remove the XML prolog and all elements that would affect the rest of the page.
    svg = written.getvalue().partition("<svg")[2]
    foreign = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    svg = re.sub(foreign, "", svg, flags=re.DOTALL)
    return Markup("<svg" + svg.replace(INK, "currentColor"))


def _columns(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the x and y coordinates of points as two rows, which may be empty."""
    return np.reshape(points, (-1, 2)).T
