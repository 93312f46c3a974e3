"""`charlstm sync`: the runs and results that MLflow lacks, sent from this checkout."""

from charlstm.errors import CharlstmError
from pipeline.run.project import state_root
from pipeline.run.stage import EXIT_BAD_INPUT, load
from pipeline.run.store import store
from pipeline.run.terminal import plain_console


def sync() -> int:
    """Send MLflow the trainings and results that it lacks.

    Ended trainings and the model of this checkout are sent. A running training sends its own data.
    A run whose process has died gets the status KILLED.

    After `git pull` and `dvc pull`, MLflow receives the run of the pulled model: parameters,
    curves, losses, texts and review. Nothing is computed.
    """
    from charlstm.tracking.client import SECONDS_FOR_FILES, ask
    from charlstm.tracking.sync import publish_all
    from pipeline.lineage.outputs import check_recorded, read_outputs

    where = store()
    console = plain_console(soft_wrap=True)
    outputs = None
    try:
        check_recorded()
        outputs = read_outputs(*load())
    except CharlstmError as error:
        console.print(f"the model of this checkout is left out: {error}")
    errors = ask(where, lambda: publish_all(where, state_root(), outputs), SECONDS_FOR_FILES)

    console.print(f"{errors.count('')} of {len(errors)} runs are complete in MLflow")
    reasons = sorted(set(errors) - {""})
    for reason in reasons:
        console.print(f"not sent: {reason}")
    return EXIT_BAD_INPUT if reasons else 0
