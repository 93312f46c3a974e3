"""A trained model as MLflow's: a logged model next to its run, made of our code and the model folder, not of pickles.

For each corpus there is a registered model: a version for each trained model, and `champion`, the one with the lowest
loss. Each function may be called again, also after a crash in its middle. None imports torch.
"""

import importlib.util
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import TrackingError
from charlstm.files.documents import did_you_mean
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import SECONDS_FOR_FILES, Store, ask, check_exists, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"  # of logged models, and begins that of registered ones
MODEL_TAG = "model_sha256"
INITIAL_TAG = "initial_model_sha256"  # of the model that the training began from
# What loading and predicting import.
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
PACKAGE = Path(__file__).resolve().parents[1]
CHAMPION = "champion"  # the alias; as a tag with the value "no", a version never gets it
VALIDATION_TAG = "validation_sha256"
LOSS_SUFFIX = "/nats_per_char"  # a tag `stateful/nats_per_char` is a loss


class LoggedModel(NamedTuple):
    """A model folder to log and register. Its `losses` are nats/char by protocol, on a text with that SHA-256."""

    folder: Path
    sha256: str
    losses: Mapping[str, float]
    validation_sha256: str


def log_model(client: "MlflowClient", run_id: str, model: LoggedModel) -> str:
    """Log the model folder as an output of the run, which has one; the id of the logged model."""
    from mlflow.entities import LoggedModelOutput

    experiment_id = str(client.get_run(run_id).info.experiment_id)
    query = f"tags.{MODEL_TAG} = '{model.sha256}' AND source_run_id = '{run_id}'"
    logged = next(iter(client.search_logged_models([experiment_id], query)), None)
    if logged is None:
        logged = client.create_logged_model(experiment_id, NAME, run_id, {MODEL_TAG: model.sha256})
    model_id = str(logged.model_id)
    is_ready = logged.status == "READY"
    if not is_ready or not client.list_logged_model_artifacts(
        model_id, "artifacts/model"
    ):  # someone deleted them
        with tempfile.TemporaryDirectory() as temporary:
            save_pyfunc(Path(temporary) / "model", model.folder, model_id, run_id)
            client.log_model_artifacts(model_id, str(Path(temporary) / "model"))
    if not is_ready:
        client.finalize_logged_model(model_id, "READY")
    if model_id not in _outputs(client, run_id):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _outputs(client: "MlflowClient", run_id: str) -> list[str]:
    """The ids of the models that a run has logged."""
    outputs = client.get_run(run_id).outputs
    return [str(output.model_id) for output in (outputs.model_outputs if outputs else [])]


def save_pyfunc(target: Path, folder: Path, model_id: str, run_id: str) -> None:
    """Write MLflow's folder of the model: `served_model.py`, this package, the weights, the exact versions."""
    with warnings.catch_warnings():  # MLflow warns of its own type hints when it is imported
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
    """The exact versions installed here, but not the build of torch (`+cpu`), which depends on the hardware alone."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def register(
    client: "MlflowClient", run_id: str, model_id: str, corpus: str, model: LoggedModel
) -> str:
    """Register a logged model, and make it champion if it is better; its version, of which each model has one."""
    tags = {MODEL_TAG: model.sha256, VALIDATION_TAG: model.validation_sha256}
    tags |= {
        f"{protocol}{LOSS_SUFFIX}": repr(float(loss)) for protocol, loss in model.losses.items()
    }
    name = f"{NAME}-{corpus}" if corpus else NAME  # MLflow takes no slash there
    if not client.search_registered_models(f"name = '{name}'"):
        about = f"Character-level LSTMs of the corpus {corpus}. models:/{name}@{CHAMPION} has the lowest loss"
        client.create_registered_model(
            name, description=f"{about} of all that were measured on the same text."
        )
    versions = client.search_model_versions(
        f"name = '{name}' AND tags.{MODEL_TAG} = '{model.sha256}'"
    )
    version = versions[0] if versions else None
    if version is None:
        source = client.get_logged_model(
            model_id
        ).artifact_location  # of `models:/ID`, MLflow asks its global store
        version = client.create_model_version(name, source, run_id, tags, model_id=model_id)
    number = str(version.version)
    for tag, value in tags.items():
        if version.tags.get(tag) != value:
            client.set_model_version_tag(name, number, tag, value)
    losses = ", ".join(
        f"{loss:.4f} ({protocol})" for protocol, loss in sorted(model.losses.items())
    )
    client.update_model_version(name, number, f"{losses} nats per character of the validation part")
    holder = client.get_registered_model(name).aliases.get(CHAMPION)
    former = client.get_model_version(name, str(holder)).tags if holder else {CHAMPION: "no"}
    if version.tags.get(CHAMPION) != "no" and (
        former.get(CHAMPION) == "no" or is_better(tags, former)
    ):
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def is_better(challenger: Mapping[str, str], champion: Mapping[str, str]) -> bool:
    """Whether, by the tags of two versions, the challenger's headline loss is lower on the same bytes of text."""
    from charlstm.evaluation.results import (
        HEADLINE,
    )  # with pydantic, which a model is loaded without

    if challenger.get(VALIDATION_TAG) != champion.get(VALIDATION_TAG):
        return False
    loss, former = (
        float(tags.get(f"{HEADLINE}{LOSS_SUFFIX}", "inf")) for tags in (challenger, champion)
    )
    return loss < former


def is_address(where: str) -> bool:
    """Whether `where` is an address of MLflow's: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN`, ..."""
    return where.startswith(("models:/", "runs:/"))


def download_model(address: str, target: Path, store: Store | None) -> Path:
    """The model folder, below `target`, or TrackingError. Without a store, MLflow says where."""
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError(
            "MLflow is not installed: `pip install 'PATH/TO/THE/CHECKOUT[pipeline]'` brings it"
        )
    from mlflow import artifacts, get_tracking_uri

    store = store or Store(str(get_tracking_uri()))
    check_exists(store)
    try:
        location = ask(store, lambda: _location(connect(store), address))
        copy = {"dst_path": str(target), "tracking_uri": store.uri}
        ask(
            store,
            lambda: artifacts.download_artifacts(f"{location}/artifacts", **copy),
            SECONDS_FOR_FILES,
        )
    except TrackingError as error:
        raise TrackingError(f"{address}: {error}") from None
    folders = [file.parent for file in target.rglob(WEIGHTS)]
    if len(folders) != 1:
        raise TrackingError(
            f"{address}: expected a model of charlstm, found {len(folders)} files {WEIGHTS} in it"
        )
    return folders[0]


def _location(client: "MlflowClient", address: str) -> str:
    """The address of a logged model's files. Of `models:/...`, MLflow itself would ask its global store."""
    name = address.partition(":/")[2]
    if address.startswith("runs:/"):
        if not (models := _outputs(client, name.strip("/"))):
            raise TrackingError("the run has logged no model: is it evaluated?")
        name = models[-1]
    if name.startswith("m-"):
        return str(client.get_logged_model(name).artifact_location)
    model, at, version = name.partition("@" if "@" in name else "/")
    if at != "@" and not version.isdecimal():
        raise TrackingError(
            "expected models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID"
        )
    known = [one.name for one in client.search_registered_models()]
    if model not in known:
        raise TrackingError(f"there is no registered model {model}{did_you_mean(model, known)}")
    if at == "@":
        return str(client.get_model_version_by_alias(model, version).source)
    return str(client.get_model_version(model, version).source)
