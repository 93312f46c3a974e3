"""`charlstm sync`: publish in MLflow what it lacks of this checkout."""

from charlstm.errors import CharlstmError
from pipeline.run.project import state_root, store
from pipeline.run.stage import EXIT_BAD_INPUT, load
from pipeline.run.terminal import plain_console


def sync() -> int:
    """Send to MLflow what it lacks: trainings that have ended, and the model of this checkout.

    A running training sends by itself. A run whose process has disappeared is ended as KILLED.

    After `git pull` and `dvc pull`, MLflow gets the run of the model that was pulled: parameters, curves, losses, texts
    and review. Nothing is computed.
    """
    from charlstm.tracking.client import SECONDS_FOR_FILES, ask
    from charlstm.tracking.sync import publish_all
    from pipeline.lineage.outputs import check_recorded, read_outputs

    where, outputs, console = store(), None, plain_console(soft_wrap=True)
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
