"""What a run's page in MLflow says: the run's name, and its description in Markdown."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from charlstm.files.urls import without_credentials
from charlstm.params import Params
from charlstm.report.collect import Generated
from charlstm.tracking.client import RECIPE_TAG
from pipeline.stage.presets import Recipe, recipe_of
from pipeline.stage.terminal import printable

if TYPE_CHECKING:  # no stage is to depend on published losses because it describes its run
    from charlstm.evaluation.published import Published

MAX_SAMPLE_LINES = 16
MAX_SAMPLE_CHARS = 800
MAX_NAME_CHARS = 120
MAX_INLINE_CHARS = 200


class Sample(NamedTuple):
    """A text that the model wrote."""

    prompt: str
    temperature: float
    seed: int
    text: str


class Known(NamedTuple):
    """What is known of a run so far. Stages that come later know more.

    `tags` are those of `provenance.tags`. `losses` are nats/char by protocol. `published` are losses that others
    reported for the same validation text, to the byte. `val_nats_per_char` is the training's own, of its best epoch.
    """

    recipe: Recipe
    seed: int
    tags: Mapping[str, str]
    num_parameters: int | None = None
    val_nats_per_char: float | None = None
    losses: Mapping[str, float] = {}
    published: Sequence["Published"] = ()
    model_sha256: str | None = None
    sample: Sample | None = None


def known_of(params: Params, tags: Mapping[str, str], **more: Any) -> Known:  # noqa: ANN401  # the fields of Known
    """With the recipe and the seed of `params`; `more` is all else that is known."""
    return Known(recipe_of(params), params.train.seed, tags, **more)


def page_tags(known: Known) -> dict[str, str]:
    """The tags that MLflow shows as a run's name, description and recipe."""
    shown = {"mlflow.runName": run_name(known), "mlflow.note.content": describe(known)}
    return shown | {RECIPE_TAG: _one_line(known.recipe.label, MAX_NAME_CHARS)}


def run_name(known: Known) -> str:
    """E.g. `quick · 0.81M · seed 1 · 1.4727`, after the DVC experiment's name if there is one.

    The loss is that of the first protocol, else the training's own; there is none while it trains.
    """
    size = [] if known.num_parameters is None else [_size(known.num_parameters)]
    loss = [] if (value := _loss(known)) is None else [f"{value:.4f}"]
    parts = [known.tags.get("dvc_exp_name"), known.recipe.label, *size, f"seed {known.seed}", *loss]
    return _one_line(" · ".join(part for part in parts if part), MAX_NAME_CHARS)


def describe(known: Known) -> str:
    """Markdown. MLflow shows its first lines until one asks for more, so the losses come first."""
    parts = [_losses(known), _origin(known), _sample(known.sample), _usage(known)]
    return "\n\n".join(part for part in parts if part) + "\n"


def remedy(best_epoch: int, num_epochs: int) -> str:
    """What lowers the loss of a training whose validation loss was lowest after `best_epoch`.

    A model whose loss rose at last knows its training text by heart: it needs dropout or fewer units, not more epochs.
    """
    if best_epoch == num_epochs:
        return "the loss still fell in the last epoch: train longer (train.epochs)"
    return (
        f"the loss rose after epoch {best_epoch} of {num_epochs}: give it more dropout (train.dropout.output and "
        "train.dropout.between_layers, e.g. 0.3) or fewer units (model.hidden_size)"
    )


def _loss(known: Known) -> float | None:
    return next(iter(known.losses.values()), known.val_nats_per_char)


def _size(num_parameters: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if num_parameters >= unit / 10:
            return f"{num_parameters / unit:.2f}{name}"
    return str(num_parameters)


def _losses(known: Known) -> str:
    if not known.losses:
        if known.val_nats_per_char is None:
            return "Training has not ended yet."
        return f"**{known.val_nats_per_char:.4f}** nats/char in validation, at the best epoch. Not evaluated yet."
    published = [one for one in known.published if one.protocol in known.losses]
    columns = ["protocol", "nats/char", *(["published", "by"] if published else [])]
    lines = [_row(columns), _row(["---"] * len(columns))]
    for protocol, loss in known.losses.items():
        others = [one for one in published if one.protocol == protocol]
        beside = ["<br>".join(f"{one.nats_per_char:.4f}" for one in others), "<br>".join(one.system for one in others)]
        lines.append(_row([protocol, f"**{loss:.4f}**", *(beside if published else [])]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _origin(known: Known) -> str:
    tags = known.tags
    corpus = f"{_code(tags.get('corpus', 'unknown'))}, SHA-256 {_code(tags.get('corpus_sha256', 'unknown')[:12])}"
    changes = {"yes": ", with uncommitted changes", "unknown": ", perhaps with uncommitted changes"}
    commit = tags.get("mlflow.source.git.commit")
    shown = f"{_code(commit[:12])}{changes.get(tags.get('git_dirty', ''), '')}" if commit else "not in a git repository"
    facts = {
        "Recipe": f"{_code(known.recipe.full)}, seed {known.seed}",
        "Parameters": None if known.num_parameters is None else f"{known.num_parameters:,}",
        "Corpus": corpus,
        "Commit": shown,
        "DVC experiment": _code(tags["dvc_exp_name"]) if tags.get("dvc_exp_name") else None,
        "Model": None if known.model_sha256 is None else f"SHA-256 {_code(known.model_sha256)}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _sample(sample: Sample | None) -> str:
    if sample is None:
        return ""
    text = printable(sample.prompt + sample.text)
    lines = text[:MAX_SAMPLE_CHARS].split("\n")[:MAX_SAMPLE_LINES]
    rest = "" if "\n".join(lines) == text else " (its beginning)"
    title = (
        f"A sample{rest}, prompt {_code(repr(sample.prompt))}, temperature {sample.temperature}, seed {sample.seed}:"
    )
    return f"{title}\n\n{_verbatim(lines)}"


def _usage(known: Known) -> str:
    if known.model_sha256 is None:
        return ""
    ours = known.model_sha256[:12]
    lines = [
        f"charlstm review {ours} ...    # beside other runs",
        f"charlstm trace {ours}         # what it was made of",
        f"charlstm reproduce {ours}     # make it again",
    ]
    return "Compare, trace, reproduce:\n\n" + _verbatim(lines)


def _verbatim(lines: list[str]) -> str:
    """A block that shows any text as it is.

    Between code fences, MLflow's renderer still reads `<pre><code>` as HTML. Below `<pre>`, escaped, nothing is read.
    """
    escaped = html.escape("\n".join(lines), quote=False)
    return f"<pre>{escaped.replace('`', '&#96;').replace('~', '&#126;')}</pre>"


def _code(text: str) -> str:
    """`text` as code within a line. Backticks become quotes: no rule for them holds in every renderer."""
    return f"`{_one_line(without_credentials(text), MAX_INLINE_CHARS).replace('`', chr(39))}`"


def _one_line(text: str, max_chars: int) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 4]} ..."


# Generated texts as an MLflow run has them: one file to read, and one table that the UI lays beside that of others.


def text_of_all(texts: Sequence[Generated]) -> str:
    """All of them as one, to read from top to bottom."""
    return "\n".join(f"=== {_title(one)}\n{one.prompt}{one.text}\n" for one in texts)


def side_by_side(texts: Sequence[Generated]) -> pd.DataFrame:
    """A row a text. MLflow's side-by-side view groups by the first column, and compares the column `output`.

    A cell may not turn the direction of the text around it, so control characters are spelled out.
    """
    rows = [
        {
            "sample": printable(_title(one)),
            "prompt": printable(one.prompt),
            "temperature": one.temperature,
            "top_k": one.top_k,
            "top_p": one.top_p,
            "seed": one.seed,
            "output": printable(one.text),
        }
        for one in texts
    ]
    return pd.DataFrame(rows)


def _title(text: Generated) -> str:
    return f"{text.prompt!r} · temperature {text.temperature} · seed {text.seed}"
