"""From a folder or an address of MLflow to a model."""

import tempfile
from os import PathLike, fspath
from pathlib import Path

from charlstm.language_model.model import Model
from charlstm.model.model_folder import load_model
from charlstm.tracking.client import Store
from charlstm.tracking.registered_model import download_model, is_address


def load(where: str | PathLike[str], *, tracking_uri: str | None = None) -> Model:
    """The trained model in a folder, or at an address of MLflow.

    `where` is a model folder (`artifacts/model`), or `models:/NAME@champion`, `models:/NAME/VERSION` (NAME is
    `charlstm-CORPUS`), `models:/MODEL_ID` or `runs:/RUN_ID`. These are asked of `tracking_uri`, or where MLflow itself
    looks: what `mlflow.set_tracking_uri` or `MLFLOW_TRACKING_URI` says, else `mlflow.db` in the current folder. The
    model runs on the CPU, in fp32.

    Raises:
        CharlstmError: there is no such model, it is damaged, or the MLflow store does not answer; one line says which.
    """
    if not is_address(fspath(where)):
        return Model(load_model(Path(where), "fused"))
    return load_from_store(fspath(where), Store(tracking_uri) if tracking_uri else None)


def load_from_store(address: str, store: Store | None) -> Model:
    """The model at an address of MLflow.

    Raises:
        CharlstmError: as `load` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Model(load_model(download_model(address, Path(folder), store), "fused"))
