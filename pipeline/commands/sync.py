"""`charlstm sync`: the runs and results that MLflow lacks, sent from this checkout."""

import typer

from charlstm.errors import CharlstmError
from pipeline.run.project import state_root
from pipeline.run.stage import load
from pipeline.run.store import store


def sync() -> int:
    """Send MLflow the trainings and results that it lacks.

    Ended trainings and the model of this checkout are sent. A running training sends its own data.
    A run whose process has died gets the status KILLED.

    After `git pull` and `dvc pull`, MLflow receives the run of the pulled model: parameters,
    curves, losses, texts and review. Nothing is computed.
    """
    from charlstm.tracking.client import SECONDS_FOR_FILES, ask
    from charlstm.tracking.sync import publish_all
    from pipeline.lineage.mlflow_run import check_recorded, read_outputs

    runs = store()
    outputs = None
    try:
        check_recorded()
        outputs = read_outputs(*load())
    except CharlstmError as error:
        typer.echo(f"the model of this checkout is left out: {error}")
    count = ask(runs, lambda: publish_all(runs, state_root(), outputs), SECONDS_FOR_FILES)
    typer.echo(f"sent to MLflow: {count}")
    return 0
