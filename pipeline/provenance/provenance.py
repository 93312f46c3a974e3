"""What a run carries of its origin: hashes, parameters, commit, the DVC experiment, versions, hardware.

Tags say in short what the artifacts below `lineage/<stage>/` have in full. Each stage writes its own, and writes it
anew when it runs again: a model may be sampled with other parameters, at another commit, on another machine than it was
trained.

    origin.json    the tags of this stage: commit, git_dirty, versions.*, hardware.*, ...
    files.json     path -> SHA-256 of what the stage read and wrote
    outputs.json   path -> MD5 of the same, as `dvc.lock` has it
    params.yaml    as it was
    dvc.lock       as it was; DVC records a stage only after it has ended, so this one's record is an older one
"""

import json
import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from charlstm.files.atomic import sha256
from charlstm.files.checksums import SUMS, read_sums, sums_of
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, Params
from charlstm.tracking.client import CORPUS_TAG, EXPERIMENT_TAG, SWEEP_TAG
from charlstm.tracking.registered_model import INITIAL_TAG
from pipeline.dvc.paths import Paths
from pipeline.provenance.git import fault, git
from pipeline.provenance.hashes import md5, md5_of, sha256_of
from pipeline.stage.project import LOCK, PARAMS, PIPELINE
from pipeline.stage.tracking_store import project_root

if TYPE_CHECKING:  # who only reads records starts without pandas
    from charlstm.tracking.runs import TrainingRecord
    from charlstm.training.history import Tables

log = logging.getLogger("charlstm")

# What a training runs on: the versions of libraries that decide bits, and the hardware.

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
    """The processor's name, as Linux has it; else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


LINEAGE = "lineage"  # the folder of artifacts
COMMIT, DIRTY, TRAIN_MD5 = "mlflow.source.git.commit", "git_dirty", "dvc_train_md5"
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
        excluded = [f":(exclude){path}" for path in _results(paths)]
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


def training_record(params: Params, paths: Paths, tables: "Tables") -> "TrainingRecord":
    """A training's record, from its files, for a store that has not seen it: not where it ran, which no file says."""
    from charlstm.tracking.runs import TrainingRecord

    time_ms = 1000 * int(git("log", "-1", "--format=%ct") or 0)  # of the commit: the same on every machine
    known = tags(params, paths) | _train_md5(paths)
    return TrainingRecord(params.flat(), known, tables, time_ms)


def lineage_of(stage: str, paths: Paths, origin: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What `stage` knows of where a run comes from: tags, and artifacts as path -> text. `origin`: the run's tags.

    What cannot be read costs a warning: the outputs are written, and no record is worth a failed training.
    """
    try:
        return _train_md5(paths), lineage_artifacts(stage, paths, origin)
    except Exception as error:  # whatever git, the disk or a strange file name can raise
        log.warning("the run has no lineage of stage %s: %s: %s", stage, type(error).__name__, error)
        return {}, {}


def lineage_artifacts(stage: str, paths: Paths, origin: dict[str, str]) -> dict[str, str]:
    """The artifacts of `stage`, path -> text; no password of a URL is in them. Call it when the outputs are written."""
    shown = {name: without_credentials(value) for name, value in origin.items()}
    documents = {"origin": shown, "files": sha256_of(paths, stage), "outputs": md5_of(paths, stage)}
    texts = {f"{name}.json": json.dumps(one, indent=2, sort_keys=True) + "\n" for name, one in documents.items()}
    for file in (PARAMS, LOCK):
        if file.is_file():
            texts[file.name] = without_credentials(file.read_text(encoding="utf-8"))
    return {f"{LINEAGE}/{stage}/{name}": text for name, text in texts.items()}


def _results(paths: Paths) -> list[str]:
    """Results are no inputs: DVC takes them away before a stage runs, and writes its lock after one."""
    return [str(LOCK), *sorted({str(path) for _, path in paths} - {NOTHING})]


def _train_md5(paths: Paths) -> dict[str, str]:
    """The name in `dvc.lock` of the file that names the weights and all tables of a training by their hashes."""
    sums = paths.train / SUMS
    return {TRAIN_MD5: md5(sums)} if sums.is_file() else {}
