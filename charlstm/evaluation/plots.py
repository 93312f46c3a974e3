"""Pictures of losses, as PNG files, and as SVG inside a page."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from charlstm.evaluation.documents import Curves, Point
from charlstm.evaluation.published import ORIGINAL_VAL_NATS_PER_CHAR
from charlstm.files.atomic import atomic_file

# Ten colors that can be told apart on white and on black.
COLORS = (
    "#3b82c4", "#d9822b", "#3f9c6b", "#c2504c", "#8a6fc0", "#96704f", "#cf6aa8", "#7d8590", "#a8a030", "#2fa3ad",
)  # fmt: skip
MAX_PANELS = 9
INK = "#010203"  # stands for the color of the page's text, whatever it is
default_style = matplotlib.style.context("default", after_reset=True)  # whatever style a user has set: the same bytes


@default_style
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


@default_style
def plot_sweep(path: Path, values: Mapping[str, Sequence[str]], losses: Sequence[float], label: str) -> None:
    """The loss over each parameter of a sweep, as a PNG: a panel a parameter, at most `MAX_PANELS`; a point a training.

    Numbers lie on an axis, a logarithmic one where they span a factor of ten; other values stand side by side.
    """
    shown = list(values.items())[:MAX_PANELS] or [("(the same parameters)", ["" for _ in losses])]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.5 + 3.5 * columns, 3.2 * rows), layout="constrained")
    for number, (name, texts) in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, number)
        numbers = _numbers(texts)
        axes.scatter(texts if numbers is None else numbers, losses, color=COLORS[0], alpha=0.8)
        if numbers is not None and min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
        axes.set(xlabel=name, ylabel=label if number % columns == 1 or columns == 1 else "")
        axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


@default_style
def losses_svg(curves: Sequence[Curves]) -> Markup:
    """An `<svg>` element with the loss curves of at most ten models, each in its color of COLORS, training fainter.

    It takes over the page's text color, has no legend and no text but numbers and the names of the axes.
    """
    with matplotlib.rc_context({"svg.hashsalt": "charlstm", "svg.fonttype": "none"}):  # the fonts of the page
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for color, curve in zip(COLORS, curves, strict=False):
            axes.plot(*_columns(curve.training), color=color, lw=1, alpha=0.5)
            axes.plot(*_columns(curve.validation), color=color, marker="o", ms=4)
        lows = [y for curve in curves for _, y in (*curve.training, *curve.validation)]
        if lows:
            axes.set_ylim(min(lows) - 0.05, min(lows) + 1.0)
        axes.set_xlabel("epoch", color=INK)
        axes.set_ylabel("nats per character", color=INK)
        axes.tick_params(colors=INK)
        axes.grid(color=INK, alpha=0.12)
        axes.spines[:].set_color(INK)
        axes.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    # Without what belongs to a file of its own, or would change the page around it.
    foreign = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    return Markup(re.sub(foreign, "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(INK, "currentColor"))


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
