"""Loading of a trained model from a folder or from MLflow."""

import tempfile
from os import PathLike, fspath
from pathlib import Path

from charlstm.language_model.model import Model
from charlstm.model.model_folder import load_model
from charlstm.tracking.client import Store
from charlstm.tracking.download import download_model, is_address


def load(where: str | PathLike[str], *, tracking_uri: str | None = None) -> Model:
    """Load a trained model, which runs on the CPU in fp32.

    Args:
        where: a model folder (`artifacts/model`) or an MLflow address: `models:/NAME@champion`,
            `models:/NAME/VERSION` (NAME is `charlstm-CORPUS`), `models:/MODEL_ID` or
            `runs:/RUN_ID`.
        tracking_uri: MLflow store of the address. Default: MLflow's own choice, which is
            `mlflow.set_tracking_uri`, then `MLFLOW_TRACKING_URI`, then `mlflow.db` in the current
            folder.

    Raises:
        CharlstmError: the model does not exist or is damaged, or the MLflow store does not answer.
    """
    if not is_address(fspath(where)):
        return Model(load_model(Path(where), "fused"))
    store = Store(tracking_uri) if tracking_uri else None
    with tempfile.TemporaryDirectory() as folder:
        return Model(load_model(download_model(fspath(where), Path(folder), store), "fused"))
