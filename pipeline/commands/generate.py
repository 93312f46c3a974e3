"""`charlstm generate`: text from a trained model, on a terminal as it is drawn."""

import json
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.errors import CorpusError, TextRequestError
from charlstm.sampling import DEFAULTS, Sampling, unknown_rule, whole
from pipeline.command_io import (
    MODEL,
    STDIN,
    ModelOption,
    UnknownOption,
    has_stdin,
    open_model,
    read_file,
    readable,
    to_the_end_of_a_pipe,
)
from pipeline.run.project import from_here
from pipeline.run.terminal import plain_console, printable

if TYPE_CHECKING:
    from charlstm.language_model.model import Model

SEED_BITS = 32  # short enough to be typed
SEPARATOR = "---"  # a line between texts
Prompt = Annotated[
    str | None,
    typer.Argument(
        help="What the text follows. Without, standard input if it is no terminal, else a newline.", show_default=False
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with it; `-` is standard input.", show_default=False, callback=from_here),
]
NumChars = Annotated[int, typer.Option("--num-chars", "-n", help="Characters of a text.")]
Temperature = Annotated[float, typer.Option(help="Divides the logits: lower is safer, 0 takes the likeliest.")]
TopK = Annotated[int | None, typer.Option(help="Only the K likeliest characters.", show_default=False)]
TopP = Annotated[float, typer.Option(help="Only the likeliest with this probability together.")]
MinP = Annotated[float, typer.Option(help="Only characters with this share of the likeliest one's probability.")]
Seed = Annotated[int | None, typer.Option(help="The same seed, the same text. Without, a fresh one each time.")]
NumTexts = Annotated[int, typer.Option(help="Several texts, with a line `---` between them.")]
Stop = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="End before this text. May be given several times.", show_default=False),
]
KeepStop = Annotated[bool, typer.Option("--keep-stop", help="End after the text of --stop, not before it.")]
JSON_LINES = "A JSON object a line: prompt, text, why it ended, seed, options."
Json = Annotated[bool, typer.Option("--json", metavar="", help=JSON_LINES)]


def generate(
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    num_chars: NumChars = DEFAULTS.num_chars,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    seed: Seed = None,
    num_texts: NumTexts = 1,
    stop: Stop = None,
    keep_stop: KeepStop = False,
    unknown: UnknownOption = "error",
    is_json: Json = False,
    model: ModelOption = MODEL,
) -> int:
    """Write text with a trained model.

    The text alone goes to standard output. A terminal shows the prompt before it, and characters as they are drawn.
    """
    options = Sampling.checked(
        num_chars=num_chars,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=secrets.randbits(SEED_BITS) if seed is None else seed,
        stop=stop or (),
        keep_stop=keep_stop,
    )
    whole("num_texts", num_texts)
    rule, text = unknown_rule(unknown), _prompt(prompt, prompt_file)
    trained = open_model(model)
    text = readable(trained, _beginning(trained) if text is None else text, rule)
    with to_the_end_of_a_pipe():
        if is_json:
            _write_json(trained, text, num_texts, options)
        else:
            _write_texts(trained, text, num_texts, options, is_seed_shown=seed is None)
    return 0


def _beginning(model: "Model") -> str:
    """What a text follows where nothing was given: a newline, or the first character of a model that knows none."""
    known = model.info["characters"]
    return "\n" if known is None or "\n" in known else str(known[0])


def _prompt(prompt: str | None, file: Path | None) -> str | None:
    """The prompt, from the argument, the file or standard input; None if there is none."""
    if prompt is not None and file is not None:
        raise TextRequestError("expected either a PROMPT or --prompt-file FILE, got both")
    if prompt is not None:
        if any("\ud800" <= character <= "\udfff" for character in prompt):  # as Python has bytes that are not UTF-8
            raise CorpusError(f"prompt: expected UTF-8, got {prompt!r}")
        return prompt
    if file is None and not has_stdin():
        return None
    # Without the newline that ends the last line of a file. The shell's `$(cat FILE)` takes off all of them.
    return re.sub(r"\r?\n\Z", "", read_file(file or STDIN)) or None


def _write_json(model: "Model", prompt: str, num_texts: int, options: Sampling) -> None:
    values = options._asdict()
    for index, text in enumerate(model.generate(prompt, num_texts=num_texts, **values)):
        line = {"prompt": prompt, "text": text, "reason": text.reason, "index": index, **values}
        line["model_sha256"] = model.info["model_sha256"]
        typer.echo(json.dumps(line, ensure_ascii=False).encode())


def _write_texts(model: "Model", prompt: str, num_texts: int, options: Sampling, *, is_seed_shown: bool) -> None:
    """Write one text as it is drawn, several when they are done. A terminal shows the prompt and the seed as well."""
    is_terminal, is_one, values = sys.stdout.isatty(), num_texts == 1, options._asdict()
    texts = [model.stream(prompt, **values)] if is_one else model.generate(prompt, num_texts=num_texts, **values)
    try:
        for index, text in enumerate(texts):
            if index:
                _write(f"{SEPARATOR}\n")
            if is_terminal:
                _show_dimmed(prompt)
            _write(text)
            _write("\n")
    except KeyboardInterrupt:
        _write("\n")  # before what a shell shows next
        raise
    finally:
        if is_terminal and is_seed_shown:
            typer.echo(f"again: --seed {options.seed}", err=True)


def _show_dimmed(prompt: str) -> None:
    from rich.text import Text  # text that goes elsewhere has no color

    shown = Text(printable(prompt, sys.stdout.encoding), style="dim")
    plain_console(soft_wrap=True).print(shown, end="")


def _write(pieces: Iterable[str]) -> None:
    """Write text: at once and safe on a terminal, raw UTF-8 elsewhere."""
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode())
        return
    pending = ""
    for piece in pieces:
        pending += piece
        if piece != "\r":  # a CR LF is shown as one newline
            sys.stdout.write(printable(pending, sys.stdout.encoding))
            sys.stdout.flush()
            pending = ""
