"""`charlstm sync`: send to MLflow what still waits, and end the runs whose processes are gone."""

from typing import Annotated

import typer

from pipeline.run.project import state_root, store
from pipeline.run.stage import EXIT_BAD_INPUT, load
from pipeline.run.terminal import plain_console


def sync(
    is_of_files: Annotated[
        bool,
        typer.Option("--files", help="First make the run of the model that is here from its files."),
    ] = False,
) -> int:
    """Send to MLflow what a server has missed.

    Trainings that are under way send by themselves. A run whose process has disappeared is ended as KILLED.

    With `--files`, MLflow gets the run of this checkout's model if it has none, as after `git pull` and `dvc pull`:
    parameters, curves, losses, texts and review. Nothing is computed.
    """
    from charlstm.tracking.client import SECONDS_FOR_FILES, ask
    from charlstm.tracking.runs import send_unsent

    root, where = state_root(), store()
    if is_of_files:
        from pipeline.rebuilding import rebuild  # it takes torch, which sending does without

        rebuild(*load())
    console = plain_console(soft_wrap=True)
    errors = ask(where, lambda: send_unsent(root, where), SECONDS_FOR_FILES)
    console.print(f"{errors.count('')} of {len(errors)} runs sent" if errors else "nothing waits to be sent")
    reasons = sorted(set(errors) - {""})
    for reason in reasons:
        console.print(f"not sent: {reason}")
    return EXIT_BAD_INPUT if reasons else 0
