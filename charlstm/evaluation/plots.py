"""Pictures of losses, as PNG files, and as SVG inside a page."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib
import matplotlib.style
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from charlstm.evaluation.results import LossCurves
from charlstm.files.atomic import atomic_file
from charlstm.parameter_names import short_name

# The original, from which this project began (https://github.com/tusharip/NLP at 07de339, LSTM/training_log.txt):
# 2 x 256 LSTM, stride-1 windows of 100, Adam 1e-3, 5 epochs. Validation loss after each epoch, measured by
# `sliding_100` (`charlstm.model.loss.sliding`), on the last 10 % of tiny Shakespeare's characters.
ORIGINAL_VAL_SHA256 = "c54f3753a4e6e3c3d1759212815a7caf826e68a33021b25312984400bed40a1f"  # as UTF-8
ORIGINAL_VAL_NATS_PER_CHAR = (1.6052, 1.5432, 1.5285, 1.5252, 1.5290)
# Ten colors that can be told apart on white and on black.
COLORS = (
    "#3b82c4", "#d9822b", "#3f9c6b", "#c2504c", "#8a6fc0", "#96704f", "#cf6aa8", "#7d8590", "#a8a030", "#2fa3ad",
)  # fmt: skip
MAX_PANELS = 9
INK = "#010203"  # stands for the color of the page's text, whatever it is
default_style = matplotlib.style.context(
    "default", after_reset=True
)  # whatever style a user has set: the same bytes


@default_style
def plot_losses(
    path: Path, steps: pd.DataFrame, epochs: pd.DataFrame, *, compare_with_original: bool
) -> None:
    """The loss curves as a PNG: training by step, validation by epoch, and the original's published validation."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps_per_epoch = epochs["step"].iloc[0]
    axes.plot(
        steps["step"] / steps_per_epoch,
        steps["train_nats_per_char"],
        color="tab:blue",
        lw=1,
        label="training",
    )
    axes.plot(
        epochs["epoch"], epochs["val_nats_per_char"], "o-", color="tab:orange", label="validation"
    )
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
def plot_sweep(
    path: Path,
    values: Sequence[Mapping[str, object]],
    losses: Sequence[Sequence[float]],
    halves: Sequence[float | None],
) -> None:
    """The loss of each recipe of a sweep over each parameter, as a PNG with at most `MAX_PANELS` panels.

    Args:
        values: of each recipe, by the parameter's name.
        losses: of each recipe, one for each seed: the dots.
        halves: half of the 95 % interval of each recipe's difference from the best, by the text: the bars.
    """
    names = list(values[0])[:MAX_PANELS] or ["seeds"]
    columns = min(3, len(names))
    figure = Figure(
        figsize=(1.5 + 3.5 * columns, 3.2 * -(-len(names) // columns)), layout="constrained"
    )
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(-(-len(names) // columns), columns, number)
        found = [one.get(name, "") for one in values]
        is_numeric = all(isinstance(one, int | float) for one in found)
        for value, several, half in zip(found, losses, halves, strict=True):
            x = float(str(value)) if is_numeric else str(value)
            axes.scatter([x] * len(several), several, color=COLORS[0], alpha=0.6)
            axes.errorbar(
                [x], [fmean(several)], half, color=COLORS[1], marker="_", ms=12, capsize=4
            )
        numbers = [float(str(one)) for one in found] if is_numeric else [0.0]
        if min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
        axes.set(
            xlabel=short_name(name),
            ylabel="nats per character" if number % columns == 1 or columns == 1 else "",
        )
        axes.grid(alpha=0.3)
    figure.suptitle(
        "dots: seeds; orange: mean and, by this text, 95 % interval of its distance from the best",
        size=8,
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})


@default_style
def losses_svg(curves: Sequence[LossCurves]) -> Markup:
    """An `<svg>` element with the loss curves of at most ten models, each in its color of COLORS, training fainter.

    It takes over the page's text color, has no legend and no text but numbers and the names of the axes.
    """
    with matplotlib.rc_context(
        {"svg.hashsalt": "charlstm", "svg.fonttype": "none"}
    ):  # the fonts of the page
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for color, curve in zip(COLORS, curves, strict=False):
            axes.plot(
                [x for x, _ in curve.training],
                [y for _, y in curve.training],
                color=color,
                lw=1,
                alpha=0.5,
            )
            axes.plot(
                [x for x, _ in curve.validation],
                [y for _, y in curve.validation],
                "o-",
                color=color,
                ms=4,
            )
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
        figure.savefig(
            written, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = written.getvalue()
    # Without what belongs to a file of its own, or would change the page around it.
    foreign = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    return Markup(
        re.sub(foreign, "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(INK, "currentColor")
    )
