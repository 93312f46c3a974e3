"""A run's page in MLflow: its name, and a description in Markdown; and what others read of parameters and losses."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from charlstm.errors import ParamsError
from charlstm.evaluation.results import HEADLINE
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.urls import without_credentials
from charlstm.params import Params, flatten
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from charlstm.tracking.registered_model import LOSS_SUFFIX
from pipeline.provenance.git import git
from pipeline.provenance.provenance import FALLBACK
from pipeline.stage.presets import RECIPES, Recipe, recipe_of, recognized
from pipeline.stage.project import PARAMS
from pipeline.stage.terminal import printable

if TYPE_CHECKING:  # trace needs no pandas
    from charlstm.tracking.runs import RunState

WHILE_TRAINING = ("train/", "validation/")  # metrics of other weights than the last
MAX_CHARS = 120


class RunSummary(NamedTuple):
    """What a run's page says of a training and its model. None is not known yet: stages that come later know more."""

    recipe: Recipe
    seed: int
    corpus: str  # its source
    corpus_sha256: str
    experiment: str | None = None  # of DVC
    num_parameters: int | None = None
    model_sha256: str | None = None
    val_nats_per_char: float | None = None  # the training's own, of its best epoch
    losses: Mapping[str, float] | None = None  # nats/char by protocol


def summary_of(params: Params, tags: Mapping[str, str]) -> RunSummary:
    """The summary of what a stage knows from the start. `tags` are those of `provenance.tags`."""
    return RunSummary(
        recipe_of(params), params.train.seed, tags["corpus"], tags["corpus_sha256"], tags.get(EXPERIMENT_TAG)
    )


def with_page(state: "RunState", summary: RunSummary, *, is_here: bool) -> "RunState":
    """The state of a run with its page.

    `is_here`: the stage ran on this machine. If not, the run is made of files, and one that exists keeps its page.
    """
    return replace(state, tags={**state.tags, **page_tags(summary)}, is_of_files=not is_here)


def flat_in(text: str | None) -> dict[str, str]:
    """All parameters of a `params.yaml`, by dotted name, as MLflow has them; empty without one that can be read."""
    try:
        params = validate(Params, parse_yaml(text or ""), PARAMS).flat()
    except (ParamsError, ValueError):
        return {}
    return {name: without_credentials(str(value)) for name, value in params.items()}


def flat(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters by dotted name, sorted, as they are written, of whatever version they are."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in flatten(params).items()
    }
    return {name: without_credentials(text) for name, text in sorted(texts.items())}


def recipe_in(params: Mapping[str, Any]) -> str:
    """The recipe of nested parameters, among those of this checkout."""
    return recognized(RECIPES, flatten(params)).label


def recipe_at(commit: str) -> str:
    """The same of a commit's `params.yaml`."""
    return recipe_in(parse_yaml(git("show", f"{commit}:./{PARAMS}") or "{}"))


def losses_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Losses in nats per character, by protocol."""
    names = [name for name in metrics if name.endswith(LOSS_SUFFIX) and not name.startswith(WHILE_TRAINING)]
    return {name.removesuffix(LOSS_SUFFIX): metrics[name] for name in names}


def page_tags(summary: RunSummary) -> dict[str, str]:
    """The tags that MLflow shows as a run's name, description and recipe."""
    shown = {"mlflow.runName": run_name(summary), "mlflow.note.content": describe(summary)}
    return shown | {RECIPE_TAG: _one_line(summary.recipe.label)}


def run_name(summary: RunSummary) -> str:
    """E.g. `quick · 0.81M · seed 1 · 1.4727`, after the DVC experiment's name if there is one.

    The loss is the headline; there is none before it is evaluated.
    """
    size = None if summary.num_parameters is None else f"{summary.num_parameters / 1e6:.2f}M"
    loss = (summary.losses or {}).get(HEADLINE)
    shown = None if loss is None else f"{loss:.4f}"
    fallback = summary.corpus if summary.corpus.startswith(FALLBACK) else None
    parts = [summary.experiment, fallback, summary.recipe.label, size, f"seed {summary.seed}", shown]
    return _one_line(" · ".join(part for part in parts if part))


def describe(summary: RunSummary) -> str:
    """Markdown. MLflow shows its first lines until one asks for more, so the losses come first."""
    val = {} if summary.val_nats_per_char is None else {"validation, at the best epoch": summary.val_nats_per_char}
    lines = [f"{name} **{loss:.4f}** nats/char" for name, loss in (summary.losses or val).items()]
    lines += [
        f"recipe {_code(summary.recipe.label)}, seed {summary.seed}",
        f"corpus {_code(summary.corpus)}, SHA-256 {_code(summary.corpus_sha256[:12])}",
    ]
    if summary.model_sha256:
        lines.append(f"what it was made of: {_code(f'charlstm trace {summary.model_sha256[:12]}')}")
    return "".join(f"- {line}\n" for line in lines)


def _code(text: str) -> str:
    """`text` as code within a line. Backticks become quotes: no rule for them holds in every renderer."""
    return f"`{_one_line(without_credentials(text)).replace('`', chr(39))}`"


def _one_line(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 4]} ..."
