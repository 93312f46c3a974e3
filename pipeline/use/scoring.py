"""`charlstm score`: figures, and the passages that surprise a model most; on a terminal in color."""

import json
import math
import sys

import typer
from rich.console import Console
from rich.text import Text

from charlstm.errors import CorpusError
from charlstm.language_model.score import Passage, Score
from charlstm.sampling import Unknown
from pipeline.stage.terminal import printable
from pipeline.use.models import open_model, readable
from pipeline.use.output import to_the_end_of_a_pipe

# From how many nats on a character has which color. 1 nat is a chance of 37 %, 3 nats 5 %, 6 nats 1 in 400.
STEPS = ((6.0, "bold white on red"), (3.0, "red"), (1.0, "yellow"), (-math.inf, ""))
WHOLE_TEXT = 5_000  # characters: of a longer text, a terminal shows the passages alone
MAX_SHOWN = 1_000  # characters of a passage
EXCERPT = 60  # characters of a passage in a table


def show_score(where: str, text: str, unknown: Unknown, num_passages: int, *, is_json: bool) -> None:
    """Score and show.

    Raises:
        CharlstmError: no model, or a text that cannot be scored.
    """
    if not text:
        raise CorpusError("expected a text to score, found an empty one")
    model = open_model(where)
    score = model.score(readable(model, "text", text, unknown))
    passages = score.most_surprising(num_passages)
    with to_the_end_of_a_pipe():
        if is_json:
            typer.echo(_json(score, passages, model.info["model_sha256"]).encode())
        elif sys.stdout.isatty():
            _show_colored(score, passages)
        else:
            typer.echo("\n".join(_figures(score) + _table(passages)).encode())


def _json(score: Score, passages: list[Passage], model_sha256: str) -> str:
    document = {
        "nats_per_char": score.nats_per_char,
        "bits_per_char": score.bits_per_char,
        "perplexity": score.perplexity if math.isfinite(score.perplexity) else None,
        "num_chars": score.num_chars,
        "model_sha256": model_sha256,
        "most_surprising": [passage._asdict() for passage in passages],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _figures(score: Score) -> list[str]:
    return [
        f"nats/char   {score.nats_per_char:.4f}",
        f"bits/char   {score.bits_per_char:.4f}",
        f"perplexity  {score.perplexity:.4g}",
        f"characters  {score.num_chars:,}",
    ]


def _table(passages: list[Passage]) -> list[str]:
    rows = [f"{_lines_of(one):<13}{one.nats_per_char:<11.2f}{_excerpt(one.text)}" for one in passages]
    return ["", "lines        nats/char  most surprising first", *rows] if rows else []


def _show_colored(score: Score, passages: list[Passage]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(_legend())
    if len(score.text) <= WHOLE_TEXT:
        console.print(_colored(score, 0, len(score.text)))
        console.print("\n".join(_table(passages)), markup=False)
    else:
        for passage in passages:
            _show_passage(console, score, passage)
    console.print("\n".join(["", *_figures(score)]), markup=False)


def _show_passage(console: Console, score: Score, passage: Passage) -> None:
    lines = f"{'line' if passage.first_line == passage.last_line else 'lines'} {_lines_of(passage)}"
    console.print(Text(f"\n{lines}: {passage.nats_per_char:.2f} nats/char", style="bold"))
    end = min(passage.end, passage.start + MAX_SHOWN)
    console.print(_colored(score, passage.start, end), end=" ...\n" if end < passage.end else "\n")


def _legend() -> Text:
    """What the colors mean."""
    names = [f"{least:g} or more" for least, _ in STEPS[:-1]] + [f"less than {STEPS[-2][0]:g}"]
    parts = [(f" {name} ", style) for name, (_, style) in zip(names, STEPS, strict=True)]
    return Text.assemble("nats of a character: ", *reversed(parts), "\n")


def _colored(score: Score, start: int, end: int) -> Text:
    """A piece of the text, in runs of one color."""
    text, previous, run = Text(), "", ""
    for character, nats in zip(score.text[start:end], score.char_nats[start:end].tolist(), strict=True):
        style = next((style for least, style in STEPS if nats >= least), "")  # none of NaN
        if style != previous:
            text.append(printable(run, sys.stdout.encoding), previous)
            previous, run = style, ""
        run += character
    text.append(printable(run, sys.stdout.encoding), previous)
    return text


def _lines_of(passage: Passage) -> str:
    first, last = passage.first_line, passage.last_line
    return f"{first}" if first == last else f"{first}-{last}"


def _excerpt(text: str) -> str:
    joined = printable(" / ".join(line for line in text.split("\n") if line))
    return joined if len(joined) <= EXCERPT else f"{joined[:EXCERPT]} ..."
