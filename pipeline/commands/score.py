"""`charlstm score`: how well a trained model foresees a text."""

from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import TextRequestError
from charlstm.sampling import unknown_rule
from pipeline.commands.generate import MODEL, ModelOption, UnknownOption, quick_import
from pipeline.stage.project import from_here


def score(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A UTF-8 text; `-` is standard input.", show_default=False, callback=from_here
        ),
    ] = None,
    lines: Annotated[int, typer.Option(min=0, help="How many of the most surprising passages to show.")] = 5,
    unknown: UnknownOption = "error",
    is_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    model: ModelOption = MODEL,
) -> int:
    """Score a text, and find its most surprising lines.

    The score is in nats and bits per character. The text is read once, from its beginning to its end, and its first
    character is not scored. A terminal shows the text colored by surprise.
    """
    from pipeline.use.output import STDIN, has_stdin, read_file

    rule = unknown_rule(unknown)
    if file is None and not has_stdin():
        raise TextRequestError("expected a FILE, or a text on standard input; see `charlstm score --help`")
    text = read_file(file or STDIN)
    with quick_import():
        from pipeline.use.scoring import show_score

    show_score(model, text, rule, lines, is_json=is_json)
    return 0
