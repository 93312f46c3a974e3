"""A trained model as MLflow's: a logged model beside its run, made of our code and the model folder, not of pickles.

Each function may be called again, also after a crash in its middle: what is there is kept, what is half-made is
finished. None imports torch.
"""

import importlib.util
import json
import math
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import Store, check_exists, connect, open_artifacts, store_to_read
from charlstm.tracking.reader import SECONDS_FOR_FILES, ask

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"  # of logged models and of the registered one
MODEL_TAG = "model_sha256"
INITIAL_TAG = "initial_model_sha256"  # of the model that the training began from
TAGS = ("corpus", "corpus_sha256", INITIAL_TAG)  # that a model has, too; all others are of its run alone
# What loading and predicting import.
REQUIREMENTS = ("mlflow", "numba", "numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors", "torch")
MAX_DIGEST_LENGTH = 36  # MLflow's limit
PACKAGE = Path(__file__).resolve().parents[1]
CHAMPION = "champion"  # the alias; as a tag with the value "no", a version never gets it
VALIDATION_TAG = "validation_sha256"
LOSS_SUFFIX = "/nats_per_char"  # a tag `windowed_256/nats_per_char` is a loss
PROTOCOLS = ("windowed_256", "stateful", "windowed_100")  # the first that two versions share decides
VERSIONS_TAG = "mlflow.modelVersions"


class LoggedModel(NamedTuple):
    """A model folder to log and register.

    Its `losses` are nats/char by protocol, on a text with that SHA-256. `tags` name its corpus, at least.
    """

    folder: Path
    sha256: str
    losses: Mapping[str, float]
    validation_sha256: str
    tags: Mapping[str, str]

    @property
    def own_tags(self) -> dict[str, str]:
        """What holds at whatever commit the model was measured."""
        shown = {name: without_credentials(self.tags[name]) for name in TAGS if name in self.tags}
        return {**shown, MODEL_TAG: self.sha256}


def log_and_register(client: "MlflowClient", run_id: str, corpus: str, model: LoggedModel) -> None:
    """Log the model folder as an output of the run, and what it was trained on. Then register it for that corpus."""
    log_corpus(client, run_id, source=model.tags["corpus"], sha256=model.tags["corpus_sha256"])
    register(client, run_id, _log_model(client, run_id, model), corpus, model)


def log_corpus(client: "MlflowClient", run_id: str, *, source: str, sha256: str) -> None:
    """Make the text a dataset input of the run. `source` is its address, shown without credentials.

    MLflow's digest is the beginning of the SHA-256; the whole is the tag `sha256` of the input.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    shown, is_url = without_credentials(source), source.lower().startswith(("http://", "https://"))
    where = ("http", {"url": shown}) if is_url else ("local", {"uri": shown})
    dataset = Dataset("corpus", sha256[:MAX_DIGEST_LENGTH], where[0], json.dumps(where[1]))
    tags = [InputTag("mlflow.data.context", "training"), InputTag("sha256", sha256)]
    client.log_inputs(run_id, [DatasetInput(dataset, tags)])


def _log_model(client: "MlflowClient", run_id: str, model: LoggedModel) -> str:
    """The id of the logged model, of which a run has one."""
    from mlflow.entities import LoggedModelOutput

    experiment_id = str(client.get_run(run_id).info.experiment_id)
    query = f"tags.{MODEL_TAG} = '{model.sha256}' AND source_run_id = '{run_id}'"
    logged = client.search_logged_models([experiment_id], query)
    first = min(logged, key=lambda one: one.status != "READY", default=None)  # rather a finished one
    if first is None:
        first = client.create_logged_model(experiment_id, NAME, run_id, model.own_tags, model_type="character LSTM")
    model_id = str(first.model_id)
    if first.status != "READY":
        with tempfile.TemporaryDirectory() as temporary:
            save_pyfunc(Path(temporary) / "model", model.folder, model_id, run_id)
            client.log_model_artifacts(model_id, str(Path(temporary) / "model"))
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


# A registered model for each corpus: a version for each trained model, and `champion`, the best of those comparable.
#
# A loss is lower only under the same protocol on the same bytes of validation text.


def register(client: "MlflowClient", run_id: str, model_id: str, corpus: str, model: LoggedModel) -> str:
    """Register a logged model, and make it champion if it is better; its version, of which each model has one.

    If the version is there, losses on the same text are added to it, losses on another text replace its own.
    """
    tags = model.own_tags | {VALIDATION_TAG: model.validation_sha256}
    tags |= {f"{protocol}{LOSS_SUFFIX}": repr(float(loss)) for protocol, loss in model.losses.items()}
    name = f"{NAME}-{corpus}" if corpus else NAME  # MLflow takes no slash there
    versions = client.search_model_versions(f"name = '{name}' AND tags.{MODEL_TAG} = '{model.sha256}'")
    version = min(versions, key=lambda one: int(one.version), default=None)
    if version is None:
        _create_registered_model(client, name, corpus)
        source = client.get_logged_model(model_id).artifact_location  # of `models:/ID`, MLflow asks its global store
        version = client.create_model_version(name, source, run_id, tags, model_id=model_id)
    number, known = str(version.version), dict(version.tags)
    if known.get(VALIDATION_TAG) != model.validation_sha256:  # first old losses go, then the text, then come new
        for loss in [tag for tag in known if tag.endswith(LOSS_SUFFIX)]:
            client.delete_model_version_tag(name, number, loss)
            del known[loss]
    for tag, value in tags.items():
        if known.get(tag) != value:
            client.set_model_version_tag(name, number, tag, value)
    client.update_model_version(name, number, _description(known | tags))
    # Shown on the logged model's page, as MLflow's own `register_model` does.
    links = json.dumps([{"name": name, "version": int(number)}])
    client.set_logged_model_tags(model_id, {VERSIONS_TAG: links})
    promote(client, name, number)
    return number


def promote(client: "MlflowClient", name: str, number: str) -> None:
    """Give the alias to that version if it is better than the champion, or if there is none."""
    holder = client.get_registered_model(name).aliases.get(CHAMPION)
    former = None if holder is None else client.get_model_version(name, str(holder)).tags
    tags = client.get_model_version(name, number).tags
    if tags.get(CHAMPION) != "no" and (former is None or former.get(CHAMPION) == "no" or is_better(tags, former)):
        client.set_registered_model_alias(name, CHAMPION, number)


def is_better(challenger: Mapping[str, str], champion: Mapping[str, str]) -> bool:
    """Whether, by the tags of two versions, the challenger's loss is lower, by the same protocol on the same text."""
    one, other = _losses(challenger), _losses(champion)
    common = one.keys() & other.keys()
    protocol = next((protocol for protocol in [*PROTOCOLS, *sorted(common)] if protocol in common), None)
    is_same_text = challenger.get(VALIDATION_TAG) == champion.get(VALIDATION_TAG)
    return is_same_text and protocol is not None and one[protocol] < other[protocol]


def _losses(tags: Mapping[str, str]) -> dict[str, float]:
    found = {name.removesuffix(LOSS_SUFFIX): float(tags[name]) for name in tags if name.endswith(LOSS_SUFFIX)}
    return {protocol: math.inf if math.isnan(loss) else loss for protocol, loss in found.items()}


def _create_registered_model(client: "MlflowClient", name: str, corpus: str) -> None:
    from mlflow.exceptions import MlflowException

    about = (
        f"Character-level LSTMs of the corpus {corpus}. The version with the alias champion has the lowest loss of all "
        f"that were measured on the same text. Its address is models:/{name}@{CHAMPION}."
    )
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _description(tags: Mapping[str, str]) -> str:
    """The losses, which a list of versions shows, and the model that the training began from, if any."""
    losses = ", ".join(f"{loss:.4f} ({protocol})" for protocol, loss in sorted(_losses(tags).items()))
    begun = f". Begun from the model {tags[INITIAL_TAG][:12]}" if INITIAL_TAG in tags else ""
    return f"{losses} nats per character of the validation part{begun}"


# A model folder by its address in MLflow: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/ID`, `runs:/RUN`.

SCHEMES = ("models:/", "runs:/")
FOLDER = "artifacts"  # of a logged model; the model folder is the one in there, under the name it was sent with


def is_address(where: str) -> bool:
    """Whether `where` is an address of MLflow's."""
    return where.startswith(SCHEMES)


def default_store() -> Store:
    """MLflow's own: what `mlflow.set_tracking_uri` or its variables say, else the database in the current folder."""
    check_installed()
    import mlflow

    return store_to_read(str(mlflow.get_tracking_uri()))


def check_installed() -> None:
    """Check that MLflow is there.

    Raises:
        TrackingError: a wheel without the extra `pipeline` has none.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError("MLflow is not installed: `pip install 'PATH/TO/THE/CHECKOUT[pipeline]'` brings it")


def download_model(address: str, target: Path, store: Store) -> Path:
    """The model folder, below `target`.

    Raises:
        TrackingError: the store does not answer, or has no such model.
    """
    check_exists(store)
    check_installed()
    try:
        location = ask(store, lambda: _location(connect(store), address))
        artifacts = open_artifacts(store, location)
        folder = ask(store, lambda: artifacts.download_artifacts(FOLDER, str(target)), SECONDS_FOR_FILES)
    except TrackingError as error:
        raise TrackingError(f"{address}: {error}") from None
    folders = [file.parent for file in Path(folder).glob(f"*/{WEIGHTS}")]
    if len(folders) != 1:
        raise TrackingError(f"{address}: expected a model of charlstm, found {len(folders)} files {WEIGHTS} in it")
    return folders[0]


def _location(client: "MlflowClient", address: str) -> str:
    """The address of a logged model's files. Of `models:/...`, MLflow itself would ask its global store."""
    scheme, _, name = address.partition(":/")
    if scheme == "runs":
        if not (models := _outputs(client, name.strip("/"))):
            raise TrackingError("the run has logged no model: is it evaluated?")
        return str(client.get_logged_model(models[-1]).artifact_location)
    if name.startswith("m-"):
        return str(client.get_logged_model(name).artifact_location)
    model, at, alias = name.partition("@")
    if at:
        return str(client.get_model_version_by_alias(model, alias).source)
    model, _, number = name.partition("/")
    if not number.isdecimal():
        raise TrackingError("expected models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/ID")
    return str(client.get_model_version(model, number).source)
