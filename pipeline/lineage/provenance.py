"""The provenance of a run: tags for hardware, versions, data, code and experiment.

Importing pandas and torch takes seconds. They are imported when a run is created, because `trace`
needs neither.
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from charlstm.errors import ParamsError
from charlstm.files.checksums import read_sums, sha256, sums_of
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.parameter_names import flatten
from charlstm.params import Params
from charlstm.tracking.client import CORPUS_TAG, EXPERIMENT_TAG
from charlstm.tracking.registered_model import INITIAL_TAG, LOSS_SUFFIX
from pipeline.lineage.git import fault, git
from pipeline.recipes import RECIPES, recognized
from pipeline.run.dvc import Paths
from pipeline.run.project import PARAMS, PIPELINE

LIBRARIES = ("torch", "accelerate", "numpy", "pandas", "matplotlib", "safetensors", "dvc", "mlflow")
GIB = 2**30
COMMIT = "mlflow.source.git.commit"
TRAIN_MD5 = "dvc_train_md5"
DIRTY = "git_dirty"  # tag that says whether files differ from the commit
CHANGED = "git_changed"  # tag that lists the files that differ
BASELINE = "dvc_exp_baseline"
# Files and folders whose uncommitted changes count. DVC itself changes outputs and `dvc.lock`.
DECISIVE = ("charlstm", "pipeline", "conf", str(PIPELINE), str(PARAMS))
FALLBACK = "FALLBACK"  # the recorded source of a substitute text begins with this word


def environment() -> dict[str, str]:
    """Return the tags that describe this process: `versions.*` and `hardware.*`."""
    import torch

    from charlstm.training.processes import cuda_libraries

    tags = {f"versions.{name}": version(name) for name in LIBRARIES}
    tags |= {
        "versions.python": platform.python_version(),
        "hardware.processor": _processor(),
        "hardware.instructions": torch.backends.cpu.get_cpu_capability(),
        "hardware.cores": str(psutil.cpu_count(logical=False) or os.cpu_count() or 1),
        "hardware.threads": str(torch.get_num_threads()),
        "hardware.memory_gib": f"{psutil.virtual_memory().total / GIB:.1f}",
    }
    if torch.cuda.is_available():
        tags["hardware.gpu"] = torch.cuda.get_device_name()
        tags |= {f"versions.{name}": number for name, number in cuda_libraries().items()}
    return tags


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def provenance_tags(params: Params, paths: Paths) -> dict[str, str]:
    """Return the tags for the corpus, the git commit and the DVC experiment, if any."""
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    name = params.download.name
    source = without_credentials(params.download.source)
    fallback = params.download.fallback
    if fallback and corpus_sha256 == fallback.sha256:
        # A substitute is a different text, so it has its own experiment and registered model.
        name = f"{name}-fallback"
        source = f"{FALLBACK} {fallback.requirement}"
    tags = {CORPUS_TAG: name, "corpus": source, "corpus_sha256": corpus_sha256, **_git_tags()}

    # The initial model's files may be missing: the stages after training do not need them.
    if (weights := paths.initial / WEIGHTS).is_file():
        tags[INITIAL_TAG] = sha256(weights)
    for tag, variable in ((EXPERIMENT_TAG, "DVC_EXP_NAME"), (BASELINE, "DVC_EXP_BASELINE_REV")):
        if value := os.environ.get(variable):
            tags[tag] = value
    return tags


def _git_tags() -> dict[str, str]:
    """Return the tags for the git commit and the uncommitted changes of code and parameters."""
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {DIRTY: "unknown"} if fault() else {}
    tags = {
        COMMIT: commit,
        # Without these two tags, MLflow's UI hides the commit.
        "mlflow.source.name": str(PIPELINE),
        "mlflow.source.type": "LOCAL",
    }
    changes = git("status", "--porcelain", "--untracked-files=all", "--", *DECISIVE)
    if changes is None:
        tags[DIRTY] = "unknown"
    elif changes:
        tags[DIRTY] = "yes"
        tags[CHANGED] = ", ".join(line.split()[-1] for line in changes.splitlines())
    else:
        tags[DIRTY] = "no"
    return tags


def flat_in(text: str | None) -> dict[str, str]:
    """Return the parameters in the text of a `params.yaml`, keyed by dotted name as in MLflow.

    Return an empty dictionary if the text is missing or not valid.
    """
    try:
        params = validate(Params, parse_yaml(text or ""), PARAMS).flat()
    except (ParamsError, ValueError):
        return {}
    return {name: without_credentials(str(value)) for name, value in params.items()}


def flat(params: Mapping[str, Any]) -> dict[str, str]:
    """Convert nested parameters of any charlstm version to texts, sorted by dotted name."""
    texts = {
        name: value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in flatten(params).items()
    }
    return {name: without_credentials(text) for name, text in sorted(texts.items())}


def recipe_in(params: Mapping[str, Any]) -> str:
    """Return the name of the recipe in this checkout that matches the nested parameters."""
    return recognized(RECIPES, flatten(params)).label


def recipe_at(commit: str) -> str:
    """Return the name of the recipe that matches the `params.yaml` of a commit."""
    return recipe_in(parse_yaml(git("show", f"{commit}:./{PARAMS}") or "{}"))


def losses_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return a run's losses in nats per character, keyed by evaluation protocol."""
    return {
        name.removesuffix(LOSS_SUFFIX): value
        for name, value in metrics.items()
        if name.endswith(LOSS_SUFFIX)
    }
