"""`charlstm sync`: send to MLflow what still waits, and end the runs whose processes are gone."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from charlstm.errors import LineageError
from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.published import text_sha256
from charlstm.files.documents import load_yaml
from charlstm.model.model_folder import load_model
from charlstm.params import Params
from charlstm.report.collect import Generated
from charlstm.report.document import read_losses
from charlstm.text.units import whole_characters
from charlstm.text.vocabulary import load_ids
from charlstm.training.history import read_csv, read_tables
from pipeline import evaluate, sample
from pipeline.dvc.paths import Paths, load_outs
from pipeline.lineage.revisions import parse_lock
from pipeline.provenance.hashes import folder_md5, md5
from pipeline.stage.exit_codes import EXIT_BAD_INPUT


def sync(
    is_of_files: Annotated[
        bool,
        typer.Option("--files", help="First make the run of the model that is here from its files."),
    ] = False,
) -> int:
    """Send to MLflow what a server has missed.

    Trainings that are under way send by themselves. A run whose process is gone without a word is ended as KILLED.

    With `--files`, MLflow gets the run of this checkout's model if it has none, as after `git pull` and `dvc pull`:
    parameters, curves, losses, texts and review. Nothing is computed.
    """
    if is_of_files:
        from pipeline.stage.stage import load

        rebuild(*load())
        typer.echo("the run of this checkout's model has what its files say")
    from rich.console import Console

    from charlstm.tracking.sender import send_waiting
    from pipeline.stage.tracking_store import spool_root, store

    console = Console(highlight=False, soft_wrap=True)
    root, where = spool_root(), store()
    outcomes = send_waiting(root, where) if root.is_dir() else []
    failed = [one for one in outcomes if one.error or one.num_damaged]
    if not outcomes:
        console.print("nothing else waits to be sent" if is_of_files else "nothing waits to be sent")
    else:
        console.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs sent")
    for reason in sorted({one.error for one in failed if one.error}):
        console.print(f"still waiting: {reason}", markup=False)
    return EXIT_BAD_INPUT if failed else 0


# With `--files`: the run of the model that is here, made whole from the files that are here.
#
# After `git pull` and `dvc pull` a colleague has all files and no run: DVC brings outputs, and runs are MLflow's.

LOCK = Path("dvc.lock")
STAGES = ("train", "evaluate", "sample")


def rebuild(params: Params, paths: Paths) -> None:
    """Write all that train, evaluate and sample have told of this model, for MLflow; what it has, it keeps.

    Raises:
        LineageError: files are missing, or are not those that `dvc.lock` names.
        CharlstmError: one is damaged.
    """
    check_files(paths)
    trained, tables = load_model(paths.model, params.model.implementation), read_tables(paths.train, paths.model)
    losses = read_losses(paths.evaluate / "metrics.json")
    val = load_ids(paths.encoded / evaluate.VAL_IDS, len(trained.vocab))
    measured = whole_characters(val[: params.evaluate.max_chars], trained.vocab.unit)
    validation_sha256 = text_sha256(measured, trained.vocab)
    metrics = {protocol: loss.model_dump() for protocol, loss in losses.items()}
    baselines = read_baselines(paths.evaluate / BASELINES)
    evaluate.track(params, paths, tables, trained, validation_sha256, metrics, baselines, is_here=False)
    texts = read_texts(paths.samples / sample.TABLE)
    sample.track(params, paths, tables, trained, texts, losses, validation_sha256, is_here=False)


def check_files(paths: Paths) -> None:
    """Nothing, if all outputs of the last three stages are those that `dvc.lock` names, and so are the parameters.

    Raises:
        LineageError: one is not.
    """
    lock = parse_lock(LOCK.read_text(encoding="utf-8"))
    if lock is None:
        raise LineageError(f"{LOCK}: expected DVC's record of the stages, found something else")
    for stage in STAGES:
        outs = (load_outs(Path("dvc.yaml"), stage, paths, is_cached=is_cached) for is_cached in (True, False))
        for path in chain.from_iterable(outs):
            if not path.exists():
                raise LineageError(f"{path}: not here; `dvc pull` brings it, `dvc repro {stage}` makes it")
            recorded = lock.outputs.get(str(path))
            if recorded != (folder_md5(path) if path.is_dir() else md5(path)):
                raise LineageError(f"{path}: not what {LOCK} names; `dvc checkout` or `dvc repro {stage}` restores it")
    here = load_yaml(Path("params.yaml"))
    for section in ("model", "train", "evaluate", "sample"):
        if lock.params.get(section) != here.get(section):
            raise LineageError(f"params.yaml: {section} is not what {LOCK} names; put it back, or `dvc repro`")


def read_texts(path: Path) -> list[Generated]:
    """The rows of `samples.csv`.

    Raises:
        HistoryError: it is no such table.
    """
    frame = read_csv(path, ("prompt", "temperature", "top_p", "seed"))
    return [
        Generated(
            str(row["prompt"]),
            float(row["temperature"]),
            None if pd.isna(row["top_k"]) else int(row["top_k"]),
            float(row["top_p"]),
            int(row["seed"]),
            "" if pd.isna(row["text"]) else str(row["text"]),
        )
        for row in frame.to_dict("records")
    ]
