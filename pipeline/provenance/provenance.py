"""What a run says of its origin, in tags: corpus, commit, DVC experiment, versions, hardware."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from charlstm.files.atomic import SUMS, read_sums, sha256, sums_of
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, Params
from charlstm.tracking.client import CORPUS_TAG, EXPERIMENT_TAG
from charlstm.tracking.registered_model import INITIAL_TAG, MODEL_TAG
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import md5
from pipeline.provenance.git import fault, git
from pipeline.stage.project import LOCK, PIPELINE
from pipeline.stage.tracking_store import project_root

if TYPE_CHECKING:  # who only reads records starts without pandas
    from charlstm.history import Tables
    from charlstm.tracking.runs import RunState

LIBRARIES = ("torch", "accelerate", "numpy", "pandas", "matplotlib", "safetensors", "dvc", "mlflow")
GIB = 2**30


def environment() -> dict[str, str]:
    """Tags `versions.*` and `hardware.*` of this process."""
    import torch  # who only reads such tags starts without them

    from charlstm.training.processes import cuda_libraries

    found = {f"versions.{name}": version(name) for name in LIBRARIES} | {"versions.python": platform.python_version()}
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
    names = re.findall(r"^model name\s*:\s*(.+)$", file.read_text() if file.exists() else "", re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


COMMIT, DIRTY, TRAIN_MD5 = "mlflow.source.git.commit", "git_dirty", "dvc_train_md5"
SWEEP_TAG = "sweep"  # of a run of a sweep; the value is the commit from which it began
BASELINE = "dvc_exp_baseline"
CODE = ("charlstm", "pipeline", "conf")  # a new file in there may well be imported
FALLBACK = "FALLBACK"  # begins the source of a text that stands in for the one that is named


def tags(params: Params, paths: Paths) -> dict[str, str]:
    """The hash of the corpus, the git commit, and the DVC experiment if there is one."""
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    name, source, fallback = params.download.name, without_credentials(params.download.source), params.download.fallback
    if fallback and corpus_sha256 == fallback.sha256:  # another text: an experiment and a registered model of its own
        name, source = f"{name}-fallback", f"{FALLBACK} {fallback.requirement}"
    found = {CORPUS_TAG: name, "corpus": source, "corpus_sha256": corpus_sha256}
    if (weights := paths.initial / WEIGHTS).is_file():  # later stages run without it, too
        found[INITIAL_TAG] = sha256(weights)
    if commit := git("rev-parse", "HEAD"):
        found[COMMIT] = commit
        # Without these, MLflow's UI hides the commit.
        found |= {"mlflow.source.name": str(PIPELINE), "mlflow.source.type": "LOCAL"}
        # Results are no inputs: DVC takes them away before a stage runs, and writes its lock after one.
        excluded = [f":(exclude){path}" for path in {str(LOCK), *(str(path) for _, path in paths)} - {NOTHING}]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
        new = git("ls-files", "--others", "--exclude-standard", "--", *CODE)
        found[DIRTY] = "unknown" if changed is None or new is None else "yes" if changed or new else "no"
    elif fault():
        found[DIRTY] = "unknown"
    for tag, variable in ((EXPERIMENT_TAG, "DVC_EXP_NAME"), (BASELINE, "DVC_EXP_BASELINE_REV")):
        if value := os.environ.get(variable):
            found[tag] = value
    if BASELINE in found and project_root() != Path.cwd().resolve():  # from a queue, or with --temp: one of several
        found[SWEEP_TAG] = found[BASELINE]
    return found


def run_of_model(model_sha256: str, params: Params, paths: Paths, tables: "Tables") -> "RunState":
    """The run of a model: a store that has none gets what its training would have had, but for the hardware."""
    from charlstm.tracking.runs import RunState, curves_of_tables

    time_ms = 1000 * int(git("log", "-1", "--format=%ct") or 0)  # of the commit: the same on every machine
    new_tags = {**tags(params, paths), **train_md5(paths), "made_from": "files"}
    curves = curves_of_tables(tables)
    return RunState(MODEL_TAG, model_sha256, time_ms, params.flat(), new_tags=new_tags, curves=curves)


def train_md5(paths: Paths) -> dict[str, str]:
    """The name in `dvc.lock` of the file that names the weights and all tables of a training by their hashes."""
    sums = paths.train / SUMS
    return {TRAIN_MD5: md5(sums)} if sums.is_file() else {}
