"""`charlstm trace`: where does this come from?"""

import sys
from enum import Enum
from typing import Annotated

import typer

from charlstm.errors import LineageError
from pipeline.lineage import tracing
from pipeline.stage.project import from_here
from pipeline.stage.terminal import printable


class Kind(Enum):
    """What a name may be."""

    RUN = "run"
    FILE = "file"
    REV = "rev"


def trace(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="A run (its id, the first 8 digits of it or more, its name, or its model's hash); a file or folder, "
            "also one that was moved here; or a commit, branch, tag or DVC experiment. Tried in this order.",
            show_default=False,
            callback=from_here,
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--as", help="Take the name for this and nothing else.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="A piece of generated text: who wrote it?")] = None,
    with_files: Annotated[
        bool, typer.Option("--files", help="And the hashes of all files, all versions and hardware.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, as one JSON object.")] = False,
) -> int:
    """Trace a run, revision, file or text to its bytes.

    Shown are recipe and changes, losses, data, the commit and what was changed in it, the DVC experiment, the machine,
    how to keep it and how to make it again. With `--files`, also all hashes from the corpus to the samples. The tie is
    content: it holds for copies, after `dvc pull`, and for any MLflow server that has the run.
    """
    if (name is None) == (text is None):
        raise LineageError("trace: expected either a RUN, FILE or REV, or --text TEXT; see `charlstm trace --help`")

    in_full = None if as_json else tracing.MAX_IN_FULL
    document = tracing.trace_document(name, kind.value if kind else None, text, in_full)
    for note in document["notes"]:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(tracing.as_json(document))
    else:
        for line in tracing.print_lines(document, with_files=with_files):
            typer.echo(printable(line, sys.stdout.encoding))
    return 0
