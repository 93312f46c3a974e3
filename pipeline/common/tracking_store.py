"""Where MLflow runs go, and where spools wait for it."""

import os
from pathlib import Path

from charlstm.tracking.client import Store

STATE_FOLDER = Path(".charlstm")
# Used where the user's environment does not say otherwise: no usage statistics, and a dead server is soon given up.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def project_root() -> Path:
    """The main working tree's, also in `dvc exp run --temp` and in a queue."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def spool_root() -> Path:
    """The folder of all spools, beside the checkpoints."""
    return project_root() / STATE_FOLDER / "tracking"


def kept_root() -> Path:
    """The folder of the copies of outputs that are in no cache, see `former.py`."""
    return project_root() / STATE_FOLDER / "former"


def store() -> Store:
    """MLflow's standard variables, else a database in the project's root."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "charlstm")
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return Store(uri, experiment, None, experiment_id)
    root = project_root()
    return Store(f"sqlite:///{root / 'mlflow.db'}", experiment, (root / "mlartifacts").as_uri(), experiment_id)
