"""A trained model as MLflow's: a logged model beside its run, made of our code and the model folder, not of pickles.

Each function may be called again, also after a crash in its middle: what is there is kept, what is half-made is
finished. None imports torch, so a process that only sends can call them.
"""

import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import Store, connect, find_experiments, reason_of, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "charlstm"  # of logged models and of the registered one
MODEL_TAG = "model_sha256"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")  # what loading and predicting import
MAX_DIGEST_LENGTH = 36  # MLflow's limit
PACKAGE = Path(__file__).resolve().parents[1]
CODE = (  # what served_model.py imports
    *("__init__.py", "errors.py", "sampling.py", "files", "text", "model", "generation"),
    *("tracking/__init__.py", "tracking/text_requests.py"),
)


class Corpus(NamedTuple):
    """A dataset as MLflow names it: metrics are linked to it by both."""

    name: str
    digest: str


def log_corpus(client: "MlflowClient", run_id: str, *, source: str, sha256: str, name: str = "corpus") -> Corpus:
    """Make the text a dataset input of the run. `source` is its address, shown without credentials.

    MLflow's digest is the beginning of the SHA-256; the whole is the tag `sha256` of the input.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    shown, is_url = without_credentials(source), source.lower().startswith(("http://", "https://"))
    where = ("http", {"url": shown}) if is_url else ("local", {"uri": shown})
    dataset = Dataset(name, sha256[:MAX_DIGEST_LENGTH], where[0], json.dumps(where[1]))
    tags = [InputTag("mlflow.data.context", "training"), InputTag("sha256", sha256)]
    client.log_inputs(run_id, [DatasetInput(dataset, tags)])
    return Corpus(dataset.name, dataset.digest)


def log_model(
    client: "MlflowClient", experiment_id: str, run_id: str, folder: Path, model_sha256: str, tags: Mapping[str, str]
) -> str:
    """Log the model folder as an output of the run; the id of the logged model, of which a run has one.

    `tags` say more of it, e.g. `corpus_sha256`.
    """
    from mlflow.entities import LoggedModelOutput

    model = find_model(client, experiment_id, run_id, model_sha256)
    if model is None:
        shown = {name: without_credentials(value) for name, value in tags.items()} | {MODEL_TAG: model_sha256}
        model = client.create_logged_model(experiment_id, NAME, run_id, shown, model_type="character LSTM")
    model_id = str(model.model_id)
    if not _is_ready(model):
        with tempfile.TemporaryDirectory() as temporary:
            save_pyfunc(Path(temporary) / "model", folder, model_id, run_id)
            client.log_model_artifacts(model_id, str(Path(temporary) / "model"))
        client.finalize_logged_model(model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if model_id not in [one.model_id for one in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def find_model(client: "MlflowClient", experiment_id: str, run_id: str, model_sha256: str) -> "LoggedModel | None":
    """The logged model of the run with these weights, rather a finished one; None if there is none."""
    query = f"tags.{MODEL_TAG} = '{model_sha256}' AND source_run_id = '{run_id}'"
    return min(client.search_logged_models([experiment_id], query), key=lambda one: not _is_ready(one), default=None)


def save_pyfunc(target: Path, folder: Path, model_id: str, run_id: str) -> None:
    """Write MLflow's folder of the model: `served_model.py`, the code it needs, the weights, the exact versions."""
    with warnings.catch_warnings():  # MLflow warns of its own type hints when it is imported
        warnings.simplefilter("ignore")
        from mlflow import pyfunc
        from mlflow.models import Model

        with tempfile.TemporaryDirectory() as temporary:
            pyfunc.save_model(
                target,
                python_model=PACKAGE / "tracking" / "served_model.py",
                artifacts={"model": folder.resolve().as_uri()},
                code_paths=[str(_copy_code(Path(temporary)))],
                pip_requirements=requirements(),
                mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            )


def requirements() -> list[str]:
    """The exact versions installed here, but not the build of torch (`+cpu`), which depends on the hardware alone."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _copy_code(folder: Path) -> Path:
    """The part of this package that predicts, in `folder`."""
    copy = folder / PACKAGE.name
    for name in CODE:
        source, target = PACKAGE / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return copy


def link_metrics(
    client: "MlflowClient", run_id: str, model_id: str, names: Sequence[str], corpus: Corpus | None = None
) -> None:
    """Show the run's latest values of metrics at its model, and at the dataset they were measured on."""
    from mlflow.entities import Metric

    latest = [history[-1] for name in names if (history := client.get_metric_history(run_id, name))]
    linked = [  # the same times: MLflow takes them for the same points, and the run gets no second one
        Metric(one.key, one.value, one.timestamp, one.step, model_id, *(corpus or (None, None))) for one in latest
    ]
    if linked:
        client.log_batch(run_id, metrics=linked, synchronous=True)


def _is_ready(model: "LoggedModel") -> bool:
    return str(model.status) == "READY"


# A registered model for each corpus: a version for each trained model, and `champion`, the best of those comparable.
#
# A loss is lower only under the same protocol on the same bytes of validation text. Each function may be called again.

CHAMPION = "champion"  # the alias; as a tag with the value "no", a version never gets it
VALIDATION_TAG = "validation_sha256"
LOSS_SUFFIX = "/nats_per_char"  # a tag `windowed_256/nats_per_char` is a loss
PROTOCOLS = ("windowed_256", "stateful", "windowed_100")  # the first that two versions share decides
VERSIONS_TAG = "mlflow.modelVersions"
NUM_CHECKS = 5
TAGS = ("corpus", "corpus_sha256")  # of the run's; the run has the others
ABOUT = (
    "Character-level LSTMs{of_corpus}. The version with the alias champion has the lowest loss of all that were "
    "measured on the same text. Its address is {address}."
)


def register(
    client: "MlflowClient",
    model_id: str,
    *,
    corpus: str,
    run_id: str,
    model_sha256: str,
    losses: Mapping[str, float],
    validation_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Register a logged model, and make it champion if it is better; its version, of which each model has one.

    `losses` are nats/char by protocol, measured on a text with the SHA-256 `validation_sha256`. `tags` are the run's,
    of which `TAGS` are the version's as well. If the version is there, losses on the same text are added to it, losses
    on another text replace its own.
    """
    shown = {name: without_credentials(tags[name]) for name in TAGS if name in tags}
    shown |= {MODEL_TAG: model_sha256, VALIDATION_TAG: validation_sha256}
    shown |= {f"{protocol}{LOSS_SUFFIX}": repr(float(loss)) for protocol, loss in losses.items()}
    name = registered_name(corpus)
    version = find_version(client, name, model_sha256)
    if version is None:
        _create_registered_model(client, name, corpus)
        about = _describe(shown, run_id)
        source = client.get_logged_model(model_id).artifact_location  # of `models:/ID`, MLflow asks its global store
        version = client.create_model_version(name, source, run_id, shown, None, about, 0, model_id)
    else:
        _update(client, version, shown)
    _link(client, model_id, name, str(version.version))
    promote(client, name, str(version.version))
    return str(version.version)


def registered_name(corpus: str) -> str:
    """The registered model for models of that corpus: `charlstm-CORPUS`, since MLflow takes no slash there.

    Spools of an older version name no corpus: their models go where all did then.
    """
    return f"{NAME}-{corpus}" if corpus else NAME


def find_version(client: "MlflowClient", name: str, model_sha256: str) -> "ModelVersion | None":
    """The first version of the registered model that has these weights; None if there is none."""
    found = client.search_model_versions(f"name = '{name}' AND tags.{MODEL_TAG} = '{model_sha256}'")
    return min(found, key=_number, default=None)


def promote(client: "MlflowClient", name: str, version: str) -> None:
    """Give the alias to `version` if it is better than the champion, or if there is none.

    Then looks again, as long as a version that is better by the same protocol has it not: where two processes move
    the alias at once, the later one finds the version of the other, which was there before it was promoted.
    """
    holder, candidates = _candidates(client, name)
    champion, challenger = candidates.get(holder), candidates.get(version)
    if challenger is None or (champion is not None and not is_better(challenger.tags, champion.tags)):
        return
    protocol = common_protocol(challenger.tags, (champion or challenger).tags)
    for _ in range(NUM_CHECKS):
        text = challenger.tags.get(VALIDATION_TAG)
        rivals = [one for one in candidates.values() if one.tags.get(VALIDATION_TAG) == text]
        best = min(rivals, key=lambda one: _losses(one.tags).get(protocol, math.inf), default=None)
        if best is None or str(best.version) == holder:
            return
        client.set_registered_model_alias(name, CHAMPION, str(best.version))
        holder, candidates = _candidates(client, name)


def is_better(challenger: Mapping[str, str], champion: Mapping[str, str]) -> bool:
    """By the tags of two versions: is the challenger's loss lower, by the same protocol on the same text?"""
    protocol = common_protocol(challenger, champion)
    is_same_text = challenger.get(VALIDATION_TAG) == champion.get(VALIDATION_TAG)
    return is_same_text and protocol != "" and _losses(challenger)[protocol] < _losses(champion)[protocol]


def common_protocol(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The protocol that compares two versions, by their tags; empty if there is none."""
    common = _losses(one).keys() & _losses(other).keys()
    return next((protocol for protocol in [*PROTOCOLS, *sorted(common)] if protocol in common), "")


def _candidates(client: "MlflowClient", name: str) -> tuple[str, dict[str, "ModelVersion"]]:
    """The number of the version that has the alias, if any, and all that may have it, by number, oldest first."""
    holder = client.get_registered_model(name).aliases.get(CHAMPION, "")
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=_number)
    return str(holder), {str(one.version): one for one in found if one.tags.get(CHAMPION) != "no"}


def _losses(tags: Mapping[str, str]) -> dict[str, float]:
    found = {name.removesuffix(LOSS_SUFFIX): float(tags[name]) for name in tags if name.endswith(LOSS_SUFFIX)}
    return {protocol: math.inf if math.isnan(loss) else loss for protocol, loss in found.items()}


def _number(version: "ModelVersion") -> int:
    return int(version.version)


def _create_registered_model(client: "MlflowClient", name: str, corpus: str) -> None:
    from mlflow.exceptions import MlflowException

    of_corpus = f" of the corpus {corpus}" if corpus else ""
    about = ABOUT.format(of_corpus=of_corpus, address=f"models:/{name}@{CHAMPION}")
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(client: "MlflowClient", model_id: str, registered: str, version: str) -> None:
    """Show the version on the logged model's page, as MLflow's own `register_model` does."""
    known = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    if version not in [str(one["version"]) for one in known if one["name"] == registered]:
        link = {"name": registered, "version": int(version)}
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*known, link])})


def _update(client: "MlflowClient", version: "ModelVersion", tags: Mapping[str, str]) -> None:
    """Make the tags and the description say what `tags` do."""
    registered, number, known = version.name, str(version.version), dict(version.tags)
    if known.get(VALIDATION_TAG) != tags[VALIDATION_TAG]:  # first the old losses go, then the text, then come the new
        for name in [name for name in known if name.endswith(LOSS_SUFFIX)]:
            client.delete_model_version_tag(registered, number, name)
            del known[name]
    for name, value in tags.items():
        if known.get(name) != value:
            client.set_model_version_tag(registered, number, name, value)
    description = _describe({**known, **tags}, version.run_id)
    if version.description != description:
        client.update_model_version(registered, number, description)


def _describe(tags: Mapping[str, str], run_id: str) -> str:
    """Sentences, which read as text and as Markdown: the losses, and where the version comes from."""
    losses = [f"{loss:.4f} ({protocol})" for protocol, loss in sorted(_losses(tags).items())]
    corpus = f"A character-level LSTM, trained on {tags['corpus']}." if "corpus" in tags else "A character-level LSTM."
    # The losses first: a list of versions shows the beginning.
    measured = f"{', '.join(losses)} nats per character of the validation part. " if losses else ""
    return f"{measured}{corpus}\n\nThe run {run_id} has its parameters, its texts and what it was made of."


# A model folder by its address in MLflow: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/ID`, `runs:/RUN`.

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
    except ModuleNotFoundError:
        raise TrackingError(
            f"{address}: MLflow is not installed: `pip install 'PATH/TO/THE/CHECKOUT[pipeline]'` brings it"
        ) from None
    try:
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
