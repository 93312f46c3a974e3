"""The MLflow run of this checkout's model, read from the outputs of train, evaluate and sample.

The training need not have run here: after `git pull` and `dvc pull`, a colleague's MLflow gets a
complete run.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.evaluation.baselines import BASELINES
from charlstm.evaluation.difference import BLOCKS
from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.files.checksums import SUMS
from charlstm.files.documents import load_yaml
from charlstm.history import EpochRow, StepRow, read_csv, read_tables
from charlstm.interpretation.analysis import CELLS, CELLS_TABLE
from charlstm.model.model_folder import load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params
from charlstm.review.document import DOCUMENT, PAGE, read_losses
from charlstm.text.encoded import load_encoded, text_sha256
from charlstm.tracking.client import RECIPE_TAG
from charlstm.tracking.publish import TABLES_TAG, Row, Snapshot, epoch_metrics, step_metrics
from charlstm.tracking.registered_model import LOSS_SUFFIX, MODEL_TAG, LoggedModel
from charlstm.tracking.sync import publish_at_end
from pipeline.lineage.git import git
from pipeline.lineage.provenance import FALLBACK, TRAIN_MD5, provenance_tags
from pipeline.recipes import recipe_of
from pipeline.run.dvc import Paths, md5, read_lock
from pipeline.run.project import LOCK, PARAMS, state_root
from pipeline.run.settings import seconds
from pipeline.run.store import store
from pipeline.run.terminal import printable

SAMPLES = "samples.csv"
EVALUATE_FILES = ("loss_curve.png", BLOCKS, BASELINES, CELLS, CELLS_TABLE)  # artifacts of the run
# MLflow shows this table next to the tables of other runs.
SIDE_BY_SIDE = "samples/table.json"


def publish_outputs(params: Params, paths: Paths, *, has_samples: bool) -> None:
    """Publish this checkout's outputs in MLflow at the end of a stage.

    Args:
        params: all parameters.
        paths: the paths of the outputs.
        has_samples: True if stage sample has run for this model.
    """
    outputs = read_outputs(params, paths, has_samples=has_samples)
    publish_at_end(store(), state_root(), seconds("CHARLSTM_TRACKING_SECONDS"), outputs)


def check_recorded() -> None:
    """Check that the outputs, and the parameters that affect them, match `dvc.lock`.

    Raises:
        CharlstmError: an output or a section of parameters differs, or an output is missing.
    """
    lock = read_lock()
    outputs = lock.files("outs")
    if not outputs:
        raise CharlstmError(f"{LOCK} records no outputs; `dvc repro` creates them")
    different = [
        name
        for name, recorded in outputs.items()
        if not Path(name).exists() or md5(Path(name)) != recorded
    ]
    recorded_params = lock.params()
    params = load_yaml(PARAMS)
    for section in ("model", "train", "evaluate", "sample"):
        if params.get(section) != recorded_params.get(section):
            different.append(f"{section} in {PARAMS}")
    if different:
        raise CharlstmError(
            f"missing, or different from {LOCK}: {', '.join(different)}; restore the recorded "
            "version with `dvc pull`, or run `dvc repro`"
        )


def read_outputs(params: Params, paths: Paths, *, has_samples: bool = True) -> Snapshot:
    """Return a snapshot of this checkout's model and its results, for MLflow.

    Raises:
        CharlstmError: a file is missing or damaged.
    """
    trained = load_model(paths.model, params.model.implementation)
    num_parameters = trained.model.shape.num_parameters
    losses = read_losses(paths.evaluate / "metrics.json")
    measured = {"train/num_parameters": float(num_parameters)}
    for protocol, loss in losses.items():
        measured |= {f"{protocol}/{name}": value for name, value in loss}

    new_tags = provenance_tags(params, paths)
    new_tags[TRAIN_MD5] = md5(paths.train / SUMS)
    new_tags["made_from"] = "files"
    tags = page_tags(params, new_tags, num_parameters, measured.get(HEADLINE + LOSS_SUFFIX))
    texts: dict[str, str] = {}
    files = {f"evaluate/{name}": paths.evaluate / name for name in EVALUATE_FILES}
    if has_samples:
        tags[TABLES_TAG] = json.dumps([{"path": SIDE_BY_SIDE, "type": "table"}])
        texts = _sample_texts(paths.samples / SAMPLES)
        files |= {f"review/{name}": paths.samples / name for name in (PAGE, DOCUMENT)}

    # Losses of the test part must not decide which model is the champion. Windowed losses of byte
    # models cannot be compared with other models' losses, because their windows are shorter.
    vocab = trained.vocab
    nats_per_char = {
        protocol: loss.nats_per_char
        for protocol, loss in losses.items()
        if not protocol.startswith(TEST_PREFIX)
        and (vocab.unit == "character" or protocol == HEADLINE)
    }
    validation = load_encoded(paths.encoded / "val.npy", vocab).first(params.evaluate.max_chars)
    validation_sha256 = text_sha256(validation.ids, vocab)

    # Use the time of the commit, which is the same on every machine.
    time_ms = 1000 * int(git("log", "-1", "--format=%ct") or 0)
    return Snapshot(
        MODEL_TAG,
        trained.sha256,
        time_ms,
        _read_rows(paths, time_ms),
        params=params.flat(),
        tags=tags,
        new_tags=new_tags,
        measured=measured,
        texts=texts,
        files=files,
        model=LoggedModel(paths.model, trained.sha256, nats_per_char, validation_sha256),
    )


def page_tags(
    params: Params,
    tags: Mapping[str, str],
    num_parameters: int | None = None,
    nats_per_char: float | None = None,
) -> dict[str, str]:
    """Return the tags for a run's recipe and for its name on MLflow's page.

    A name is, for example, `muon.learning_rate 0.03 · quick · 0.81M · seed 1 · 1.4727`. MLflow cuts
    the end of long names, so a name begins with the difference from the recipe.

    Args:
        params: all parameters.
        tags: the provenance of the run.
        num_parameters: size of the model, if it is known.
        nats_per_char: the headline loss, if it is measured.
    """
    recipe = recipe_of(params)
    parts = [*reversed(recipe.label_parts)]
    if tags["corpus"].startswith(FALLBACK):
        parts.insert(0, tags["corpus"])
    if num_parameters is not None:
        parts.append(f"{num_parameters / 1e6:.2f}M")
    parts.append(f"seed {params.train.seed}")
    if nats_per_char is not None:
        parts.append(f"{nats_per_char:.4f}")
    return {"mlflow.runName": " · ".join(parts), RECIPE_TAG: recipe.label}


def _read_rows(paths: Paths, time_ms: int) -> list[Row]:
    """Return the rows of the training's tables, each with the given time."""
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    steps = [StepRow(*row) for row in tables.steps.itertuples(index=False)]
    epochs = [EpochRow(*row) for row in tables.epochs.itertuples(index=False)]
    return [Row(row.step, time_ms, step_metrics(row)) for row in steps] + [
        Row(row.step, time_ms, epoch_metrics(row)) for row in epochs
    ]


def _sample_texts(file: Path) -> dict[str, str]:
    """Return the samples as artifacts: a file with all texts, and a JSON table with a row per text.

    MLflow's side-by-side view groups by the first column and compares the column `output`. Control
    characters are escaped, because they could change the direction of the text around them.
    """
    samples = read_csv(file, ("prompt", "temperature", "top_p", "seed"))
    samples = samples.fillna({"text": ""}).astype({"top_k": "Int64"})
    titles = [
        f"{row.prompt!r} · temperature {row.temperature} · seed {row.seed}"
        for row in samples.itertuples()
    ]
    texts = zip(titles, samples["prompt"] + samples["text"], strict=True)
    table = samples.drop(columns="text").assign(
        prompt=samples["prompt"].map(printable), output=samples["text"].map(printable)
    )
    table.insert(0, "sample", [printable(title) for title in titles])
    return {
        "samples/all.txt": "\n".join(f"=== {title}\n{text}\n" for title, text in texts),
        SIDE_BY_SIDE: str(table.to_json(orient="split", index=False)),
    }
