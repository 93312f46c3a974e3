"""A model folder by its address in MLflow: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/ID`, `runs:/RUN`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import TrackingError
from charlstm.storage.urls import without_credentials
from charlstm.tracking.client import Store, connect, find_experiments, reason_of
from charlstm.tracking.sqlite_store import sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMES = ("models:/", "runs:/")
FOLDER = "artifacts"  # of a logged model; the model folder is the one in there, under the name it was sent with
WEIGHTS = "model.safetensors"  # as `charlstm.model.model_folder` has it, which takes torch to import


def is_address(where: str) -> bool:
    """Whether `where` is an address of MLflow's."""
    return where.startswith(SCHEMES)


def default_store() -> Store:
    """MLflow's own: what `mlflow.set_tracking_uri` or its variables say, else the database in the current folder."""
    import mlflow

    return Store(str(mlflow.get_tracking_uri()), "", None)


def download_model(address: str, target: Path, store: Store) -> Path:
    """The model folder, below `target`.

    Raises:
        TrackingError: the store does not answer, or has no such model.
    """
    where = without_credentials(store.uri)
    if (database := sqlite_file(store.uri)) and not database.is_file():
        raise TrackingError(f"{address}: there is no MLflow database {database}")
    try:
        from mlflow.artifacts import download_artifacts

        client = connect(store)
        if store.artifact_root:
            find_experiments(client, store)  # of a checkout that was moved, its own artifacts
        source = _location(client, address)
        found = download_artifacts(artifact_uri=f"{source}/{FOLDER}", dst_path=str(target), tracking_uri=store.uri)
    except TrackingError:
        raise
    except Exception as error:  # whatever a server, a driver or a disk can raise
        raise TrackingError(f"{address}: no model from MLflow at {where}: {reason_of(error, store)[:300]}") from None
    folders = [file.parent for file in Path(found).glob(f"*/{WEIGHTS}")]
    if len(folders) != 1:
        raise TrackingError(f"{address}: expected a model of charlstm, found {len(folders)} files {WEIGHTS} in it")
    return folders[0]


def _location(client: "MlflowClient", address: str) -> str:
    """Where the files of the logged model are. Of `models:/...`, MLflow itself would ask its global store."""
    scheme, _, name = address.partition(":/")
    if scheme == "runs":
        return _location(client, f"models:/{_logged_model_of(client, name.strip('/'), address)}")
    if match := re.fullmatch(r"([^@/]+)(?:@([^@/]+)|/(\d+))", name):
        model, alias, number = match.groups()
        version = client.get_model_version_by_alias(model, alias) if alias else client.get_model_version(model, number)
        return str(version.source)
    if not re.fullmatch(r"m-\w+", name):
        raise TrackingError(f"{address}: expected models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID")
    return str(client.get_logged_model(name).artifact_location)


def _logged_model_of(client: "MlflowClient", run_id: str, address: str) -> str:
    """The id of the model that a run has logged."""
    outputs = client.get_run(run_id).outputs
    models = [str(one.model_id) for one in (outputs.model_outputs if outputs else [])]
    if not models:
        raise TrackingError(f"{address}: the run has logged no model; evaluate logs one (`dvc repro evaluate`)")
    return models[-1]
