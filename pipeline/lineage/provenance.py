"""What a run says of its origin, in tags and on its page in MLflow; and what others read of parameters and losses.

Importing pandas and torch takes seconds, so they are imported when a run is made: `trace` needs neither.
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from charlstm.errors import ParamsError
from charlstm.evaluation.results import HEADLINE
from charlstm.files.checksums import SUMS, read_sums, sha256, sums_of
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.parameter_names import flatten
from charlstm.params import NOTHING, Params
from charlstm.tracking.client import CORPUS_TAG, EXPERIMENT_TAG, RECIPE_TAG
from charlstm.tracking.registered_model import INITIAL_TAG, LOSS_SUFFIX
from pipeline.lineage.git import fault, git
from pipeline.recipes import RECIPES, Recipe, recipe_of, recognized
from pipeline.run.dvc import Paths, md5
from pipeline.run.project import LOCK, PARAMS, PIPELINE
from pipeline.run.terminal import printable

LIBRARIES = ("torch", "accelerate", "numpy", "pandas", "matplotlib", "safetensors", "dvc", "mlflow")
GIB = 2**30
COMMIT, TRAIN_MD5 = "mlflow.source.git.commit", "dvc_train_md5"
DIRTY, CHANGED = "git_dirty", "git_changed"  # whether files differ from the commit, and which
BASELINE = "dvc_exp_baseline"
CODE = ("charlstm", "pipeline", "conf")  # a new file in there may well be imported
FALLBACK = "FALLBACK"  # begins the source of a text that stands in for the one that is named
WHILE_TRAINING = (
    "train/",
    "validation/",
)  # metrics of earlier versions, of other weights than the last
MAX_CHARS = 120


def environment() -> dict[str, str]:
    """Tags `versions.*` and `hardware.*` of this process."""
    import torch

    from charlstm.training.processes import cuda_libraries

    found = {f"versions.{name}": version(name) for name in LIBRARIES} | {
        "versions.python": platform.python_version()
    }
    found |= {
        "hardware.processor": _processor(),
        "hardware.instructions": torch.backends.cpu.get_cpu_capability(),
        "hardware.cores": str(psutil.cpu_count(logical=False) or os.cpu_count() or 1),
        "hardware.threads": str(torch.get_num_threads()),
        "hardware.memory_gib": f"{psutil.virtual_memory().total / GIB:.1f}",
    }
    if torch.cuda.is_available():
        found["hardware.gpu"] = torch.cuda.get_device_name()
        found |= {f"versions.{name}": number for name, number in cuda_libraries().items()}
    return found


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    names = re.findall(
        r"^model name\s*:\s*(.+)$", file.read_text() if file.exists() else "", re.MULTILINE
    )
    return names[0] if names else platform.processor() or platform.machine()


def tags(params: Params, paths: Paths) -> dict[str, str]:
    """The hash of the corpus, the git commit, and the DVC experiment if there is one."""
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    name, source, fallback = (
        params.download.name,
        without_credentials(params.download.source),
        params.download.fallback,
    )
    if (
        fallback and corpus_sha256 == fallback.sha256
    ):  # another text: an experiment and a registered model of its own
        name, source = f"{name}-fallback", f"{FALLBACK} {fallback.requirement}"
    found = {CORPUS_TAG: name, "corpus": source, "corpus_sha256": corpus_sha256}
    if (weights := paths.initial / WEIGHTS).is_file():  # later stages run without it, too
        found[INITIAL_TAG] = sha256(weights)
    if commit := git("rev-parse", "HEAD"):
        found[COMMIT] = commit
        # Without these, MLflow's UI hides the commit.
        found |= {"mlflow.source.name": str(PIPELINE), "mlflow.source.type": "LOCAL"}
        # Results are no inputs: DVC takes them away before a stage runs, and writes its lock after one.
        excluded = [
            f":(exclude){path}"
            for path in {str(LOCK), *(str(path) for _, path in paths)} - {NOTHING}
        ]
        changed = git("diff", "--name-only", "HEAD", "--", ".", *excluded)
        new = git("ls-files", "--others", "--exclude-standard", "--", *CODE)
        found[DIRTY] = (
            "unknown" if changed is None or new is None else "yes" if changed or new else "no"
        )
        if found[DIRTY] == "yes":
            found[CHANGED] = ", ".join(f"{changed}\n{new}".split("\n")).strip(", ")
    elif fault():
        found[DIRTY] = "unknown"
    for tag, variable in ((EXPERIMENT_TAG, "DVC_EXP_NAME"), (BASELINE, "DVC_EXP_BASELINE_REV")):
        if value := os.environ.get(variable):
            found[tag] = value
    return found


def train_md5(paths: Paths) -> dict[str, str]:
    """The name in `dvc.lock` of the file that names the weights and all tables of a training by their hashes."""
    sums = paths.train / SUMS
    return {TRAIN_MD5: md5(sums)} if sums.is_file() else {}


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
    baselines: str | None = None  # bits of n-grams and compressors, in words


def summary_of(params: Params, tags: Mapping[str, str]) -> RunSummary:
    """The summary of what a stage knows from the start. `tags` are those of `provenance.tags`."""
    return RunSummary(
        recipe_of(params),
        params.train.seed,
        tags["corpus"],
        tags["corpus_sha256"],
        tags.get(EXPERIMENT_TAG),
    )


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
        name: value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
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
    names = [
        name
        for name in metrics
        if name.endswith(LOSS_SUFFIX) and not name.startswith(WHILE_TRAINING)
    ]
    return {name.removesuffix(LOSS_SUFFIX): metrics[name] for name in names}


def page_tags(summary: RunSummary) -> dict[str, str]:
    """The tags that MLflow shows as a run's name, description and recipe."""
    shown = {"mlflow.runName": run_name(summary), "mlflow.note.content": describe(summary)}
    return shown | {RECIPE_TAG: _one_line(summary.recipe.label)}


def run_name(summary: RunSummary) -> str:
    """Return a run's name, such as `muon.learning_rate 0.03 · quick · 0.81M · seed 1 · 1.4727`.

    MLflow cuts long names at their end, so a name begins with what differs from the recipe. The loss is the headline.
    """
    size = None if summary.num_parameters is None else f"{summary.num_parameters / 1e6:.2f}M"
    loss = (summary.losses or {}).get(HEADLINE)
    shown = None if loss is None else f"{loss:.4f}"
    fallback = summary.corpus if summary.corpus.startswith(FALLBACK) else None
    parts = [fallback, *reversed(summary.recipe.label_parts), size, f"seed {summary.seed}", shown]
    return _one_line(" · ".join(part for part in parts if part))


def describe(summary: RunSummary) -> str:
    """Markdown. MLflow shows its first lines until one asks for more, so the losses come first."""
    val = (
        {}
        if summary.val_nats_per_char is None
        else {"validation, at the best epoch": summary.val_nats_per_char}
    )
    lines = [f"{name} **{loss:.4f}** nats/char" for name, loss in (summary.losses or val).items()]
    lines += [
        f"recipe {_code(summary.recipe.label)}, seed {summary.seed}",
        f"corpus {_code(summary.corpus)}, SHA-256 {_code(summary.corpus_sha256[:12])}",
    ]
    if summary.experiment:
        lines.append(f"DVC experiment {_code(summary.experiment)}")
    if summary.baselines:
        lines.append(f"for comparison, {summary.baselines} bits/char")
    if summary.model_sha256:
        lines.append(f"what it was made of: {_code(f'charlstm trace {summary.model_sha256[:12]}')}")
    return "".join(f"- {line}\n" for line in lines)


def _code(text: str) -> str:
    """`text` as code within a line. Backticks become quotes: no rule for them holds in every renderer."""
    return f"`{_one_line(without_credentials(text)).replace('`', chr(39))}`"


def _one_line(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 4]} ..."
