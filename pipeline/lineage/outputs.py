"""The MLflow run of this checkout's model, read from the outputs of train, evaluate and sample.

The training need not have run here: after `git pull` and `dvc pull`, a colleague's MLflow gets a
complete run.
"""

import json
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.difference import BLOCKS
from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.files.documents import load_yaml
from charlstm.history import EpochRow, StepRow, read_csv, read_tables
from charlstm.interpretation.analysis import CELLS, CELLS_TABLE
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params
from charlstm.report.document import DOCUMENT, PAGE, read_losses
from charlstm.text.encoded import load_encoded, text_sha256
from charlstm.tracking.publish import TABLES_TAG, Row, Snapshot, epoch_metrics, step_metrics
from charlstm.tracking.registered_model import MODEL_TAG, LoggedModel
from charlstm.tracking.sync import publish_at_end
from pipeline.lineage import provenance
from pipeline.lineage.git import git
from pipeline.lineage.run_page import page_tags, summary_of
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
    if not lock.stages:
        raise CharlstmError(
            f"{LOCK}: file not found; it is DVC's record of the stages, and `dvc repro` creates it"
        )
    for name, recorded in lock.files("outs").items():
        if not Path(name).exists() or recorded != md5(Path(name)):
            raise CharlstmError(
                f"{name} is missing or differs from the hash in {LOCK}; restore it with `dvc pull` "
                "or `dvc repro`"
            )
    here = load_yaml(PARAMS)
    for section in ("model", "train", "evaluate", "sample"):
        if lock.params().get(section) != here.get(section):
            raise CharlstmError(
                f"{PARAMS}: {section} differs from the values recorded in {LOCK}; restore these "
                "values or run `dvc repro`"
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

    nats = {protocol: loss.nats_per_char for protocol, loss in losses.items()}
    new_tags = provenance.tags(params, paths) | provenance.train_md5(paths)
    new_tags["made_from"] = "files"
    tags = page_tags(
        summary_of(params, new_tags)._replace(
            num_parameters=num_parameters,
            losses=nats,
            model_sha256=trained.sha256,
            baselines=read_baselines(paths.evaluate / BASELINES).in_words(),
        )
    )

    texts: dict[str, str] = {}
    files = {f"evaluate/{name}": paths.evaluate / name for name in EVALUATE_FILES}
    if has_samples:
        tags[TABLES_TAG] = json.dumps([{"path": SIDE_BY_SIDE, "type": "table"}])
        texts = _sample_texts(paths.samples / SAMPLES)
        files |= {f"review/{name}": paths.samples / name for name in (PAGE, DOCUMENT)}

    # Use the time of the commit, which is the same on every machine.
    time_ms = 1000 * int(git("log", "-1", "--format=%ct") or 0)
    rows = _read_rows(paths, time_ms)
    return Snapshot(
        MODEL_TAG,
        trained.sha256,
        time_ms,
        lambda step: [row for row in rows if row.step > step],
        params=params.flat(),
        tags=tags,
        new_tags=new_tags,
        measured=measured,
        texts=texts,
        files=files,
        model=_logged_model(params, paths, trained, nats),
    )


def _logged_model(
    params: Params, paths: Paths, trained: TrainedModel, losses: dict[str, float]
) -> LoggedModel:
    """Return the model for MLflow's registry, with the losses that decide the champion.

    Losses of the test part are left out. Windowed losses of a byte model are left out as well,
    because its windows hold fewer characters.
    """
    vocab = trained.vocab
    validation = load_encoded(paths.encoded / "val.npy", vocab).first(params.evaluate.max_chars)
    chosen_by = {
        protocol: loss
        for protocol, loss in losses.items()
        if not protocol.startswith(TEST_PREFIX)
        and (vocab.unit == "character" or protocol == HEADLINE)
    }
    return LoggedModel(paths.model, trained.sha256, chosen_by, text_sha256(validation.ids, vocab))


def _read_rows(paths: Paths, time_ms: int) -> list[Row]:
    """Return the rows of the training's tables, each with the given time."""
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    steps = [StepRow(*row) for row in tables.steps.itertuples(index=False)]
    epochs = [EpochRow(*row) for row in tables.epochs.itertuples(index=False)]
    rows = [Row(row.step, time_ms, step_metrics(row)) for row in steps]
    rows += [Row(row.step, time_ms, epoch_metrics(row)) for row in epochs]
    return sorted(rows, key=lambda row: row.step)


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
