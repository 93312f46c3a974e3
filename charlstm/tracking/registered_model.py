"""Trained models in MLflow's registry, each saved with this package and without pickles.

Each corpus has one registered model, and each trained model is a version of it. The alias
`champion` marks the version with the lowest loss. A model can be downloaded from its MLflow
address, such as `models:/NAME@ALIAS`. All functions can safely be repeated, even after a crash.
None of them imports torch.
"""

import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import TrackingError
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import SECONDS_FOR_FILES, Store, ask, check_exists, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "charlstm"  # name of logged models, and prefix of the names of registered models
MODEL_TAG = "model_sha256"
INITIAL_TAG = "initial_model_sha256"  # the model from which the training started
PACKAGE = Path(__file__).resolve().parents[1]
# Packages that are imported to load a model and to generate texts.
REQUIREMENTS = (
    "mlflow",
    "numba",
    "numpy",
    "pandas",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "torch",
)
CHAMPION = "champion"  # an alias; also a tag, whose value "no" keeps a version from the alias
VALIDATION_TAG = "validation_sha256"
LOSS_SUFFIX = "/nats_per_char"  # suffix of metric and tag names, e.g. `stateful/nats_per_char`


class LoggedModel(NamedTuple):
    """A model folder to log, with its validation loss in nats/char under each protocol."""

    folder: Path
    sha256: str
    losses: Mapping[str, float]
    validation_sha256: str


def log_model(client: "MlflowClient", run_id: str, model: LoggedModel) -> str:
    """Log the model folder as an output of the run, at most once. Return the logged model's id."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    experiment_id = str(run.info.experiment_id)
    query = f"tags.{MODEL_TAG} = '{model.sha256}' AND source_run_id = '{run_id}'"
    found = client.search_logged_models([experiment_id], query)
    tags = {MODEL_TAG: model.sha256}
    logged = found[0] if found else client.create_logged_model(experiment_id, NAME, run_id, tags)
    model_id = str(logged.model_id)

    is_ready = logged.status == "READY"
    # Upload the files again if a user has deleted them.
    if not is_ready or not client.list_logged_model_artifacts(model_id, "artifacts/model"):
        with tempfile.TemporaryDirectory() as temporary:
            target = Path(temporary) / "model"
            save_pyfunc(target, model.folder, model_id, run_id)
            client.log_model_artifacts(model_id, str(target))
        client.finalize_logged_model(model_id, "READY")
    # Without this check, MLflow would store the same output twice.
    if model_id not in outputs_of(run):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def outputs_of(run: "Run") -> list[str]:
    """Return the ids of the models that the run has logged as outputs."""
    return [str(output.model_id) for output in (run.outputs.model_outputs if run.outputs else [])]


def save_pyfunc(target: Path, folder: Path, model_id: str, run_id: str) -> None:
    """Save the model in MLflow's format, with its weights, its code and its requirements."""
    with warnings.catch_warnings():  # importing MLflow raises warnings about its own type hints
        warnings.simplefilter("ignore")
        from mlflow import pyfunc
        from mlflow.models import Model as MlflowModel

        pyfunc.save_model(
            target,
            python_model=PACKAGE / "tracking" / "served_model.py",
            artifacts={"model": folder.resolve().as_uri()},
            code_paths=[str(PACKAGE)],
            pip_requirements=requirements(),
            mlflow_model=MlflowModel(run_id=run_id, model_uuid=model_id, model_id=model_id),
        )


def requirements() -> list[str]:
    """Return the required packages, with the exact versions that are installed here.

    The build of torch (e.g. `+cpu`) is omitted, because it depends only on this machine.
    """
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def register(
    client: "MlflowClient", run_id: str, model_id: str, corpus: str, model: LoggedModel
) -> str:
    """Register a model. If it beats the current champion, make it champion. Return its version."""
    tags = {MODEL_TAG: model.sha256, VALIDATION_TAG: model.validation_sha256}
    for protocol, loss in model.losses.items():
        tags[f"{protocol}{LOSS_SUFFIX}"] = repr(float(loss))
    name = f"{NAME}-{corpus}" if corpus else NAME  # MLflow allows no slash in this name
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)

    condition = f"name = '{name}' AND tags.{MODEL_TAG} = '{model.sha256}'"
    if versions := client.search_model_versions(condition):
        version = versions[0]
    else:
        # MLflow would look for the source `models:/ID` in its global store, so use the location.
        source = client.get_logged_model(model_id).artifact_location
        version = client.create_model_version(name, source, run_id, tags, model_id=model_id)
    number = str(version.version)
    for tag, value in tags.items():
        client.set_model_version_tag(name, number, tag, value)
    if version.tags.get(CHAMPION) != "no" and _beats_champion(client, name, tags):
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def _beats_champion(client: "MlflowClient", name: str, tags: Mapping[str, str]) -> bool:
    """Return whether a version has a lower headline loss than the champion on the same text.

    The version also wins if there is no champion or a user has excluded the champion.
    """
    # A global import would import pydantic, which is not needed to load a model folder.
    from charlstm.evaluation.results import HEADLINE

    number = client.get_registered_model(name).aliases.get(CHAMPION)
    champion = client.get_model_version(name, str(number)).tags if number else {CHAMPION: "no"}
    if champion.get(CHAMPION) == "no":
        return True
    loss = f"{HEADLINE}{LOSS_SUFFIX}"
    is_lower = float(tags.get(loss, "inf")) < float(champion.get(loss, "inf"))
    return is_lower and tags[VALIDATION_TAG] == champion.get(VALIDATION_TAG)


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

    model, separator, version = name.partition("@" if "@" in name else "/")
    if separator == "@":
        return str(client.get_model_version_by_alias(model, version).source)
    if version.isdecimal():
        return str(client.get_model_version(model, version).source)
    raise TrackingError(
        "the address must be models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID"
    )
