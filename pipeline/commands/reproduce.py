"""`charlstm reproduce`: can this be made again, to the byte?"""

import sys
from typing import Annotated

import typer

from pipeline.stage.project import from_here


def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="As for `charlstm trace`: a run, a file or folder, a commit, branch, tag or DVC experiment.",
            callback=from_here,
        ),
    ],
) -> int:
    """Make a run's model again and compare every byte.

    The run's commit, changes, parameters and `dvc.lock` go to a temporary git worktree. Corpus, split and ids come from
    DVC's cache or are made anew. Training, evaluation and sampling really run, tracked by nobody. Then each file is
    compared with the record.

    Exit code: 0 if all are identical, 1 if not, 2 if the run cannot be made again at all.
    """
    from pipeline.lineage.reproduction import reproduce as reproduce_run
    from pipeline.lineage.tracing import open_reader
    from pipeline.stage.terminal import printable

    lines, code = reproduce_run(run, open_reader())
    for line in lines:
        typer.echo(printable(line, sys.stdout.encoding))
    return code
