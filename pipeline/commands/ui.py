"""`charlstm ui`: MLflow's page of all runs."""

from contextlib import suppress
from typing import Annotated

import typer


def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is.")] = 5000) -> int:
    """Open MLflow's page of the runs of each corpus, in the right view.

    It prints the addresses, this checkout's corpus first, and ends with Ctrl-C. Of runs that are on a server it prints
    the server's addresses, and ends.
    """
    from pipeline.dvc.paths import corpus_name
    from pipeline.review.runs_page import show
    from pipeline.stage.tracking_store import store

    with suppress(KeyboardInterrupt):
        show(store(), port, corpus_name())
    return 0
