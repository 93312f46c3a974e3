"""What `charlstm sync --files` keeps before it sends: the run of the model that is here, from the files that are here.

After `git pull` and `dvc pull` a colleague has all files and no run: DVC brings outputs, and runs are MLflow's.
"""

from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.protocols import text_sha256
from charlstm.files.documents import load_yaml
from charlstm.history import read_csv, read_tables
from charlstm.model.model_folder import load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params
from charlstm.report.collect import SampleRow
from charlstm.report.document import read_losses
from charlstm.text.encoded import load_encoded
from pipeline import evaluate, sample
from pipeline.run.dvc import Paths, md5, read_lock
from pipeline.run.project import LOCK, PARAMS


def rebuild(params: Params, paths: Paths) -> None:
    """Write what train, evaluate and sample have told of this model, for MLflow; a run that it has keeps what it has.

    Raises:
        CharlstmError: files are missing or damaged, or are not those that `dvc.lock` names.
    """
    _check_files()
    trained = load_model(paths.model, params.model.implementation)
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    losses = read_losses(paths.evaluate / "metrics.json")
    val = load_encoded(paths.encoded / "val.npy", trained.vocab)
    validation_sha256 = text_sha256(val.first(params.evaluate.max_chars).ids, trained.vocab)
    metrics = {protocol: loss.model_dump() for protocol, loss in losses.items()}
    baselines = read_baselines(paths.evaluate / BASELINES)
    evaluate.track(params, paths, tables, trained, validation_sha256, metrics, baselines, is_here=False)
    texts = _read_texts(paths.samples / sample.TABLE)
    sample.track(params, paths, tables, trained, texts, losses, baselines, is_here=False)


def _check_files() -> None:
    """Check that all outputs, and the parameters of the last three stages, are those that `dvc.lock` names."""
    if (lock := read_lock()) is None:
        raise CharlstmError(f"{LOCK}: expected DVC's record of the stages, found none; `dvc repro` writes it")
    for name, recorded in lock.files("outs").items():
        if not Path(name).exists() or recorded != md5(Path(name)):
            raise CharlstmError(f"{name}: not what {LOCK} names; `dvc pull` or `dvc repro` brings it")
    here = load_yaml(PARAMS)
    for section in ("model", "train", "evaluate", "sample"):
        if lock.params().get(section) != here.get(section):
            raise CharlstmError(f"{PARAMS}: {section} is not what {LOCK} names; put it back, or `dvc repro`")


def _read_texts(path: Path) -> list[SampleRow]:
    """The rows of `samples.csv`."""
    frame = read_csv(path, ("prompt", "temperature", "top_p", "seed"))
    frame["text"] = frame["text"].fillna("")
    top_k = frame["top_k"].astype("Int64").astype(object)
    frame["top_k"] = top_k.where(top_k.notna(), None)
    return [SampleRow(*row) for row in frame[list(SampleRow._fields)].itertuples(index=False)]
