"""`charlstm sweep`: the experiments of a queue as one table and one picture."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.stage.project import from_here


def sweep(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="The commit that the experiments began from.")
    ] = "HEAD",
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, callback=from_here, help="The picture.")
    ] = Path("sweep.png"),
) -> int:
    """Show a sweep of `dvc exp run --queue`: a table and a picture.

    The first line counts what is done, runs, waits and failed. The table has the parameters that differ and all losses,
    the best first. The picture has the loss over each of the parameters. All are of the experiments that began from one
    commit. If there are none, it says which other commits have some.
    """
    from pipeline.review.sweeps import show_sweep  # pages and pictures take seconds to import

    show_sweep(revision, output)
    return 0
