"""What the environment says about a run: the git commit, the DVC experiment, the hashes."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from charlstm.params import Params
from charlstm.storage.checksums import read_sums, sums_of
from charlstm.storage.urls import without_credentials
from charlstm.tracking.runs import TrainingRecord
from charlstm.training.history import Tables
from pipeline.common.paths import Paths
from pipeline.common.tracking_store import project_root


def tags(params: Params, paths: Paths) -> dict[str, str]:
    """Hashes of corpus and parameters, the git commit, and the DVC experiment if there is one."""
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    found = {"corpus_sha256": corpus_sha256, "params_sha256": _params_sha256(params)}
    if params.download.fallback and found["corpus_sha256"] == params.download.fallback.sha256:
        found["corpus"] = f"FALLBACK {params.download.fallback.requirement}"
    else:
        found["corpus"] = without_credentials(params.download.source)
    if commit := git("rev-parse", "HEAD"):
        found["mlflow.source.git.commit"] = commit
        found |= {"mlflow.source.name": "dvc.yaml", "mlflow.source.type": "LOCAL"}  # without, the UI hides the commit
        # Results are no inputs: DVC takes them away before a stage runs, and writes its lock after one.
        results = [f":(exclude){path}" for path in ("dvc.lock", *dict(paths).values())]
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
        found["git_dirty"] = "unknown" if changes is None else "yes" if changes else "no"
    if name := os.environ.get("DVC_EXP_NAME"):
        found["dvc_exp_name"] = name
        if project_root() != Path.cwd().resolve():  # from a queue, or with --temp: one of several, maybe
            found["sweep"] = os.environ.get("DVC_EXP_BASELINE_REV", "")
    return found


def training_record(params: Params, paths: Paths, tables: Tables) -> TrainingRecord:
    """What the files say of the training, for a store that has not seen it."""
    time_ms = 1000 * int(git("log", "-1", "--format=%ct") or 0)  # of the commit: the same on every machine
    return TrainingRecord(params.flat(), tags(params, paths), tables.epochs, tables.steps, tables.texts, time_ms)


def git(*arguments: str) -> str | None:
    """What git prints here; None if it fails, as outside a repository or without git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _params_sha256(params: Params) -> str:
    """A name for a recipe."""
    return hashlib.sha256(json.dumps(params.decisive(), sort_keys=True).encode()).hexdigest()
