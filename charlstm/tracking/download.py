"""The download of a model from an MLflow address, such as `models:/NAME@ALIAS`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import TrackingError
from charlstm.files.documents import did_you_mean
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import SECONDS_FOR_FILES, Store, ask, check_exists, connect
from charlstm.tracking.registered_model import outputs_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def is_address(where: str) -> bool:
    """Return whether `where` is an MLflow address, such as `models:/NAME@ALIAS` or `runs:/ID`."""
    return where.startswith(("models:/", "runs:/"))


def download_model(address: str, target: Path, store: Store | None) -> Path:
    """Download a model from an MLflow address. Return the model folder, which is in `target`.

    Args:
        store: the MLflow store. Default: the store that MLflow's environment variables select.

    Raises:
        TrackingError: MLflow is not installed, or has no charlstm model at the address.
    """
    try:
        from mlflow import artifacts, get_tracking_uri
    except ModuleNotFoundError:
        raise TrackingError(
            "MLflow is not installed: run `pip install 'PATH/TO/THE/CHECKOUT[pipeline]'`"
        ) from None

    store = store or Store(str(get_tracking_uri()))
    check_exists(store)
    download = partial(artifacts.download_artifacts, dst_path=str(target), tracking_uri=store.uri)
    try:
        location = ask(store, lambda: _location(connect(store), address))
        ask(store, lambda: download(f"{location}/artifacts"), SECONDS_FOR_FILES)
    except TrackingError as error:
        raise TrackingError(f"{address}: {error}") from None
    folders = [file.parent for file in target.rglob(WEIGHTS)]
    if len(folders) != 1:
        raise TrackingError(
            f"{address}: expected one charlstm model, found {len(folders)} files named {WEIGHTS}"
        )
    return folders[0]


def _location(client: "MlflowClient", address: str) -> str:
    """Return the location of a logged model's files.

    MLflow itself resolves `models:/...` only in its global store.
    """
    name = address.partition(":/")[2]
    if address.startswith("runs:/"):
        if not (models := outputs_of(client.get_run(name.strip("/")))):
            raise TrackingError(
                "the run has no model in MLflow: a run gets its model when stage `evaluate` ends"
            )
        name = models[-1]
    if name.startswith("m-"):
        return str(client.get_logged_model(name).artifact_location)

    model, at, version = name.partition("@" if "@" in name else "/")
    if at != "@" and not version.isdecimal():
        raise TrackingError(
            "the address must be models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID"
        )
    known = [registered.name for registered in client.search_registered_models()]
    if model not in known:
        raise TrackingError(
            f"there is no registered model named {model}{did_you_mean(model, known)}"
        )
    if at == "@":
        return str(client.get_model_version_by_alias(model, version).source)
    return str(client.get_model_version(model, version).source)
