"""`charlstm score`: the losses of a text under a trained model, and its most surprising lines."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.errors import CorpusError, TextRequestError
from charlstm.sampling import unknown_rule
from pipeline.arguments import (
    MODEL,
    JsonOption,
    ModelOption,
    UnknownOption,
    echo_json,
    note_unseen,
    open_model,
    read_input,
)
from pipeline.run.project import from_here
from pipeline.run.terminal import printable

if TYPE_CHECKING:
    from charlstm.language_model.scoring import Passage, Score

EXCERPT = 60  # longest excerpt of a line in the table, in characters


def score(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A text in UTF-8; `-` is standard input.",
            callback=from_here,
        ),
    ] = None,
    lines: Annotated[
        int, typer.Option(min=0, help="Number of the most surprising lines to show.")
    ] = 5,
    unknown: UnknownOption = "error",
    as_json: JsonOption = False,
    model: ModelOption = MODEL,
) -> int:
    """Score a text and find its most surprising lines.

    The first character is not scored.
    """
    rule = unknown_rule(unknown)
    text = read_input(file)
    if text is None:
        raise TextRequestError(
            "expected a FILE or text on standard input, got neither; see `charlstm score --help`"
        )
    if not text:
        raise CorpusError("expected a text to score, found an empty text")
    trained = open_model(model)
    from charlstm.text.vocabulary import UNSEEN  # imports numpy

    if rule == "replace" or not trained.vocab.unknown(UNSEEN):
        note_unseen(text, trained.vocab)
    result = trained.score(text, unknown=rule)
    passages = result.most_surprising(lines)
    if as_json:
        echo_json(
            {
                "nats_per_char": result.nats_per_char,
                "bits_per_char": result.bits_per_char,
                "perplexity": result.perplexity if math.isfinite(result.perplexity) else None,
                "num_chars": result.num_chars,
                "model_sha256": trained.info["model_sha256"],
                "most_surprising": [passage._asdict() for passage in passages],
            }
        )
        return 0
    typer.echo("\n".join(_lines(result, passages)).encode())
    return 0


def _lines(score: "Score", passages: list["Passage"]) -> Iterator[str]:
    yield f"nats/char   {score.nats_per_char:.4f}"
    yield f"bits/char   {score.bits_per_char:.4f}"
    yield f"perplexity  {score.perplexity:.4g}"
    yield f"characters  {score.num_chars:,}"
    if passages:
        yield "\nline    nats/char  most surprising first"
    for passage in passages:
        text = printable(passage.text.rstrip("\r"))
        excerpt = text if len(text) <= EXCERPT else f"{text[:EXCERPT]} ..."
        yield f"{passage.line:<8}{passage.nats_per_char:<11.2f}{excerpt}"
