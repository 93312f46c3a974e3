"""`charlstm score`: how well a trained model predicts a text, and the lines that surprise it most."""

import json
import math
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from charlstm.errors import CorpusError, TextRequestError
from charlstm.sampling import unknown_rule
from pipeline.command_io import (
    MODEL,
    JsonOption,
    ModelOption,
    UnknownOption,
    open_model,
    say_unseen,
)
from pipeline.run.project import from_here
from pipeline.run.terminal import plain_console, printable
from pipeline.streams import STDIN, has_stdin, read_file, to_the_end_of_a_pipe

if TYPE_CHECKING:
    from charlstm.language_model.scoring import Passage, Score

# From how many nats on a character has which color. 1 nat is a chance of 37 %, 3 nats 5 %, 6 nats 1 in 400.
STEPS = ((6.0, "bold white on red"), (3.0, "red"), (1.0, "yellow"), (-math.inf, ""))
MAX_COLORED = 5_000  # characters: of a longer text, a terminal shows the table alone
EXCERPT = 60  # characters of a line in a table


def score(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="UTF-8; `-` is standard input.",
            show_default=False,
            callback=from_here,
        ),
    ] = None,
    lines: Annotated[
        int, typer.Option(min=0, help="How many of the most surprising lines to show.")
    ] = 5,
    unknown: UnknownOption = "error",
    is_json: JsonOption = False,
    model: ModelOption = MODEL,
) -> int:
    """Score a text, and find its most surprising lines.

    The first character is not scored. A terminal shows a short text colored by surprise.
    """
    rule = unknown_rule(unknown)
    if file is None and not has_stdin():
        raise TextRequestError(
            "expected a FILE, or a text on standard input; see `charlstm score --help`"
        )
    text = read_file(file or STDIN)
    if not text:
        raise CorpusError("expected a text to score, found an empty one")
    trained = open_model(model)
    from charlstm.text.vocabulary import UNSEEN  # numpy

    if rule == "replace" or not trained.vocab.unknown(UNSEEN):
        say_unseen(text, trained.vocab)
    result = trained.score(text, unknown=rule)
    passages = result.most_surprising(lines)
    with to_the_end_of_a_pipe():
        if is_json:
            typer.echo(_json(result, passages, trained.info["model_sha256"]).encode())
            return 0
        if sys.stdout.isatty() and len(result.text) <= MAX_COLORED:
            _show_colored(result)
        typer.echo("\n".join(_figures(result) + _table(passages)).encode())
    return 0


def _json(score: "Score", passages: list["Passage"], model_sha256: str) -> str:
    document = {
        "nats_per_char": score.nats_per_char,
        "bits_per_char": score.bits_per_char,
        "perplexity": score.perplexity if math.isfinite(score.perplexity) else None,
        "num_chars": score.num_chars,
        "model_sha256": model_sha256,
        "most_surprising": [passage._asdict() for passage in passages],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _figures(score: "Score") -> list[str]:
    return [
        f"nats/char   {score.nats_per_char:.4f}",
        f"bits/char   {score.bits_per_char:.4f}",
        f"perplexity  {score.perplexity:.4g}",
        f"characters  {score.num_chars:,}",
    ]


def _table(passages: list["Passage"]) -> list[str]:
    rows = []
    for passage in passages:
        text = printable(passage.text.rstrip("\r"))
        excerpt = text if len(text) <= EXCERPT else f"{text[:EXCERPT]} ..."
        rows.append(f"{passage.line:<8}{passage.nats_per_char:<11.2f}{excerpt}")
    return ["", "line    nats/char  most surprising first", *rows] if rows else []


def _show_colored(score: "Score") -> None:
    console = plain_console(soft_wrap=True)
    names = [f"{least:g} or more" for least, _ in STEPS[:-1]] + [f"less than {STEPS[-2][0]:g}"]
    legend = [(f" {name} ", style) for name, (_, style) in zip(names, STEPS, strict=True)]
    console.print(Text.assemble("nats of a character: ", *reversed(legend), "\n"))
    pairs = zip(score.text, score.char_nats.tolist(), strict=True)
    shown = Text()
    for style, run in groupby((pair for pair in pairs if pair[0] != "\r"), _style_of):
        shown.append(
            printable("".join(character for character, _ in run), sys.stdout.encoding), style
        )
    console.print(shown, end="\n\n")


def _style_of(pair: tuple[str, float]) -> str:
    return next((style for least, style in STEPS if pair[1] >= least), "")  # none of NaN
