"""What the environment says about a run: the MLflow store, the git commit, the DVC experiment, the hashes."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from charlstm.params import Params
from charlstm.storage.checksums import read_sums, sums_of
from charlstm.storage.urls import without_credentials
from charlstm.tracking.client import Store
from charlstm.tracking.runs import TrainingRecord
from charlstm.training.history import Tables
from pipeline.common.paths import Paths

# Used where the user's environment does not say otherwise: no usage statistics, and a dead server is soon given up.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def store() -> Store:
    """MLflow's standard variables, else a database in the project's root: the main one also in `dvc exp run --temp`."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "charlstm")
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        if without_credentials(uri) != uri:  # MLflow prints the address of a run that ends
            os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        return Store(uri, experiment, None, experiment_id)
    root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
    return Store(f"sqlite:///{root / 'mlflow.db'}", experiment, (root / "mlartifacts").as_uri(), experiment_id)


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
        # Results are no inputs: DVC takes them away before a stage runs, and writes its lock after one.
        results = [f":(exclude){path}" for path in ("dvc.lock", *dict(paths).values())]
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
        found["git_dirty"] = "unknown" if changes is None else "yes" if changes else "no"
    if name := os.environ.get("DVC_EXP_NAME"):
        found["dvc_exp_name"] = name
    return found


def training_record(params: Params, paths: Paths, tables: Tables) -> TrainingRecord:
    """What the files say of the training, for a store that has not seen it."""
    return TrainingRecord(params.flat(), tags(params, paths), tables.epochs, tables.steps, tables.texts)


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
