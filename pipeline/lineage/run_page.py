"""The page of a run in MLflow: its name and its description."""

from collections.abc import Mapping
from typing import NamedTuple

from charlstm.evaluation.results import HEADLINE
from charlstm.files.urls import without_credentials
from charlstm.params import Params
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from pipeline.lineage.provenance import FALLBACK
from pipeline.recipes import Recipe, recipe_of
from pipeline.run.terminal import printable

MAX_CHARS = 120


class RunSummary(NamedTuple):
    """The facts on a run's page in MLflow. Facts from stages that have not run yet are None."""

    recipe: Recipe
    seed: int
    corpus: str  # its source
    corpus_sha256: str
    experiment: str | None = None  # the name of the DVC experiment
    num_parameters: int | None = None
    model_sha256: str | None = None
    val_nats_per_char: float | None = None  # measured during training, at the best epoch
    losses: Mapping[str, float] | None = None  # nats per character, by protocol
    baselines: str | None = None  # the bits/char of n-grams and compressors, in words


def summary_of(params: Params, tags: Mapping[str, str]) -> RunSummary:
    """Return the facts about a run that every stage knows. `tags` come from `provenance.tags`."""
    return RunSummary(
        recipe_of(params),
        params.train.seed,
        tags["corpus"],
        tags["corpus_sha256"],
        tags.get(EXPERIMENT_TAG),
    )


def page_tags(summary: RunSummary) -> dict[str, str]:
    """Return the tags that MLflow shows as a run's name, description and recipe."""
    return {
        "mlflow.runName": run_name(summary),
        "mlflow.note.content": describe(summary),
        RECIPE_TAG: _one_line(summary.recipe.label),
    }


def run_name(summary: RunSummary) -> str:
    """Return a run's name, such as `muon.learning_rate 0.03 · quick · 0.81M · seed 1 · 1.4727`.

    MLflow cuts the end of long names, so a name begins with the difference from the recipe. The
    loss is the headline loss.
    """
    parts = [*reversed(summary.recipe.label_parts)]
    if summary.corpus.startswith(FALLBACK):
        parts.insert(0, summary.corpus)
    if summary.num_parameters is not None:
        parts.append(f"{summary.num_parameters / 1e6:.2f}M")
    parts.append(f"seed {summary.seed}")
    if summary.losses and HEADLINE in summary.losses:
        parts.append(f"{summary.losses[HEADLINE]:.4f}")
    return _one_line(" · ".join(parts))


def describe(summary: RunSummary) -> str:
    """Return a run's Markdown description. Losses come first: MLflow shows only the first lines."""
    losses = summary.losses or {}
    if not losses and summary.val_nats_per_char is not None:
        losses = {"validation, at the best epoch": summary.val_nats_per_char}
    lines = [f"{name} **{loss:.4f}** nats/char" for name, loss in losses.items()]
    lines += [
        f"recipe {_code(summary.recipe.label)}, seed {summary.seed}",
        f"corpus {_code(summary.corpus)}, SHA-256 {_code(summary.corpus_sha256[:12])}",
    ]
    if summary.experiment:
        lines.append(f"DVC experiment {_code(summary.experiment)}")
    if summary.baselines:
        lines.append(f"for comparison, {summary.baselines} bits/char")
    if summary.model_sha256:
        lines.append(f"provenance: {_code(f'charlstm trace {summary.model_sha256[:12]}')}")
    return "".join(f"- {line}\n" for line in lines)


def _code(text: str) -> str:
    """Return `text` as inline code. Backticks become quotes, which need no escape."""
    return f"`{_one_line(without_credentials(text)).replace('`', chr(39))}`"


def _one_line(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 4]} ..."
