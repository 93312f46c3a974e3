"""A run's page in MLflow: its name, and a description in Markdown; and what others read of parameters and losses."""

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import ParamsError
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.urls import without_credentials
from charlstm.params import Params
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from charlstm.tracking.registered_model import INITIAL_TAG, LOSS_SUFFIX
from pipeline.dvc.paths import Paths
from pipeline.provenance.git import content_at, git
from pipeline.provenance.provenance import COMMIT, DIRTY, FALLBACK, environment, lineage_of
from pipeline.stage.presets import CONF, RECIPES, Recipe, recipe_of
from pipeline.stage.project import PARAMS
from pipeline.stage.terminal import printable

if TYPE_CHECKING:  # no stage is to depend on published losses because it describes its run; trace needs no pandas
    import pandas as pd

    from charlstm.report.collect import SampleRow
    from charlstm.sections import PublishedLoss
    from charlstm.tracking.runs import RunState

WHILE_TRAINING = ("train/", "validation/")  # metrics of other weights than the last
MAX_SAMPLE_LINES = 16
MAX_SAMPLE_CHARS = 800
MAX_NAME_CHARS = 120
MAX_INLINE_CHARS = 200


class RunSummary(NamedTuple):
    """What a run's page says of a training and its model. None is not known yet: stages that come later know more."""

    recipe: Recipe
    seed: int
    corpus: str  # its source
    corpus_sha256: str
    commit: str | None = None  # outside of git
    dirty: str | None = None  # "yes", "no" or "unknown": whether the code was not that of the commit
    experiment: str | None = None  # of DVC
    commit_of: str = "`train`"  # whose commit that is: a later stage may have run at another one
    num_parameters: int | None = None
    initial_sha256: str | None = None  # of the model that the training began from
    model_sha256: str | None = None
    val_nats_per_char: float | None = None  # the training's own, of its best epoch
    losses: Mapping[str, float] | None = None  # nats/char by protocol
    published: Sequence["PublishedLoss"] = ()  # losses that others reported for the same validation text, to the byte
    sample: "SampleRow | None" = None


def summary_of(params: Params, tags: Mapping[str, str]) -> RunSummary:
    """The summary of what a stage knows from the start. `tags` are those of `provenance.tags`."""
    commit, dirty, experiment = (tags.get(tag) for tag in (COMMIT, DIRTY, EXPERIMENT_TAG))
    corpus, sha256 = tags["corpus"], tags["corpus_sha256"]
    return RunSummary(
        recipe_of(params),
        params.train.seed,
        corpus,
        sha256,
        commit,
        dirty,
        experiment,
        initial_sha256=tags.get(INITIAL_TAG),
    )


def with_page(
    state: "RunState", stage: str, paths: Paths, summary: RunSummary, tags: Mapping[str, str], *, is_here: bool
) -> "RunState":
    """The state of a run with its page, and with what `stage` knows of where it comes from.

    `is_here`: the stage ran on this machine, by these versions. If not, the run is made of files, and one that is there
    already knows better.
    """
    summary = summary._replace(commit_of=f"`{stage}`" if is_here else "the files that it was made from")
    more, texts = lineage_of(stage, paths, {**tags, **(environment() if is_here else {})})
    shown, artifacts = {**state.tags, **page_tags(summary), **more}, {**state.texts, **texts}
    return replace(state, tags=shown, texts=artifacts, is_of_files=not is_here)


def params_in(text: str | None) -> Params | None:
    """A `params.yaml` that a run or a commit has; None without one, or if it is of another version."""
    try:
        return validate(Params, parse_yaml(text or ""), PARAMS)
    except (ParamsError, ValueError):
        return None


def flat_in(text: str | None) -> dict[str, str]:
    """All parameters of a `params.yaml`, by dotted name, as MLflow has them; empty without one that can be read."""
    params = params_in(text)
    return {name: without_credentials(str(value)) for name, value in params.flat().items()} if params else {}


def recipe_at(commit: str) -> str | None:
    """The recipe of a commit's `params.yaml`, among those that it has itself: names may mean others by now."""
    params = params_in(git("show", f"{commit}:./params.yaml"))
    if params is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        own = Path(name) / CONF / RECIPES.name
        own.mkdir(parents=True)
        for file in (git("ls-tree", "--name-only", commit, f"{CONF / RECIPES.name}/") or "").splitlines():
            (own / Path(file).name).write_bytes(content_at(Path(file), commit) or b"")
        return recipe_of(params, Path(name)).label


def losses_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Losses in nats per character, by protocol."""
    names = [name for name in metrics if name.endswith(LOSS_SUFFIX) and not name.startswith(WHILE_TRAINING)]
    return {name.removesuffix(LOSS_SUFFIX): metrics[name] for name in names}


# The page in MLflow.


def page_tags(summary: RunSummary) -> dict[str, str]:
    """The tags that MLflow shows as a run's name, description and recipe."""
    shown = {"mlflow.runName": run_name(summary), "mlflow.note.content": describe(summary)}
    return shown | {RECIPE_TAG: _one_line(summary.recipe.label, MAX_NAME_CHARS)}


def run_name(summary: RunSummary) -> str:
    """E.g. `quick · 0.81M · seed 1 · 1.4727`, after the DVC experiment's name if there is one.

    The loss is that of the first protocol, else the training's own; there is none while it trains.
    """
    size = None if summary.num_parameters is None else f"{summary.num_parameters / 1e6:.2f}M"
    loss = next(iter((summary.losses or {}).values()), summary.val_nats_per_char)
    shown = None if loss is None else f"{loss:.4f}"
    fallback = summary.corpus if summary.corpus.startswith(FALLBACK) else None
    parts = [summary.experiment, fallback, summary.recipe.label, size, f"seed {summary.seed}", shown]
    return _one_line(" · ".join(part for part in parts if part), MAX_NAME_CHARS)


def describe(summary: RunSummary) -> str:
    """Markdown. MLflow shows its first lines until one asks for more, so the losses come first."""
    parts = [_losses(summary), _origin(summary), _sample(summary.sample), _usage(summary.model_sha256)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _losses(summary: RunSummary) -> str:
    if not summary.losses:
        if summary.val_nats_per_char is None:
            return "Training has not ended yet."
        return f"**{summary.val_nats_per_char:.4f}** nats/char in validation, at the best epoch. Not evaluated yet."
    rows = [["protocol", "nats/char", "published", "by"], ["---"] * 4]
    for protocol, loss in summary.losses.items():
        others = [other for other in summary.published if other.protocol == protocol]
        published = "<br>".join(f"{other.nats_per_char:.4f}" for other in others)
        rows.append([protocol, f"**{loss:.4f}**", published, "<br>".join(_cell(other.system) for other in others)])
    width = 4 if any(by for *_, by in rows[2:]) else 2
    return "\n".join(f"| {' | '.join(row[:width])} |" for row in rows)


def _origin(summary: RunSummary) -> str:
    of_changes = {"yes": ", with uncommitted changes", "unknown": ", perhaps with uncommitted changes"}
    changes = of_changes.get(summary.dirty or "", "")
    commit = f"{_code(summary.commit[:12])}{changes}" if summary.commit else "not in a git repository"
    facts = {
        "Recipe": f"{_code(summary.recipe.full)}, seed {summary.seed}",
        "Parameters": None if summary.num_parameters is None else f"{summary.num_parameters:,}",
        "Corpus": f"{_code(summary.corpus)}, SHA-256 {_code(summary.corpus_sha256[:12])}",
        "Begun from": summary.initial_sha256 and f"the model {_code(summary.initial_sha256)}",
        f"Commit of {summary.commit_of}": commit,
        "DVC experiment": summary.experiment and _code(summary.experiment),
        "Model": summary.model_sha256 and f"SHA-256 {_code(summary.model_sha256)}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _sample(sample: "SampleRow | None") -> str:
    if sample is None:
        return ""
    text = printable(sample.prompt + sample.text)
    lines = text[:MAX_SAMPLE_CHARS].split("\n")[:MAX_SAMPLE_LINES]
    rest = "" if "\n".join(lines) == text else " (its beginning)"
    prompt = _code(repr(sample.prompt))
    title = f"A sample{rest}, prompt {prompt}, temperature {sample.temperature}, seed {sample.seed}:"
    return f"{title}\n\n{_verbatim(lines)}"


def _usage(model_sha256: str | None) -> str:
    if model_sha256 is None:
        return ""
    model = model_sha256[:12]
    lines = [
        f"charlstm review {model} ...    # beside other runs",
        f"charlstm trace {model}         # what it was made of",
        f"charlstm reproduce {model}     # make it again",
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


def _cell(text: str) -> str:
    """`text` as a cell of a table, or a part of one."""
    return html.escape(_one_line(text, MAX_INLINE_CHARS), quote=False).replace("|", "\\|")


def _one_line(text: str, max_chars: int) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 4]} ..."


# Generated texts as an MLflow run has them: one file to read, and one table that the UI lays beside that of others.


def text_of_all(texts: Sequence["SampleRow"]) -> str:
    """All texts as one, to read from top to bottom."""
    return "\n".join(f"=== {_title(text)}\n{text.prompt}{text.text}\n" for text in texts)


def side_by_side(texts: Sequence["SampleRow"]) -> "pd.DataFrame":
    """A row a text. MLflow's side-by-side view groups by the first column, and compares the column `output`.

    A cell may not turn the direction of the text around it, so control characters are spelled out.
    """
    import pandas as pd

    rows = [
        {"sample": printable(_title(text)), **text._asdict(), "prompt": printable(text.prompt)}
        | {"output": printable(text.text)}
        for text in texts
    ]
    return pd.DataFrame(rows).drop(columns="text")


def _title(text: "SampleRow") -> str:
    return f"{text.prompt!r} · temperature {text.temperature} · seed {text.seed}"
