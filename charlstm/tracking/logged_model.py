"""A trained model as MLflow's: a logged model beside its run, made of our code and the model folder, not of pickles.

Each function may be called again, also after a crash in its middle: what is there is kept, what is half-made is
finished. None imports torch, so a process that only sends can call them.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.storage.urls import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

NAME = "charlstm"  # of logged models and of the registered one
MODEL_TAG = "model_sha256"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")  # what loading and predicting import
MAX_DIGEST_LENGTH = 36  # MLflow's limit
PACKAGE = Path(__file__).resolve().parents[1]
CODE = (  # what served_model.py imports
    *("__init__.py", "errors.py", "storage", "text", "model", "generation"),
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
