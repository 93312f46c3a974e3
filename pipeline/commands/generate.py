"""`charlstm generate`: text from a trained model, on a terminal as it is drawn."""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.errors import CorpusError, TextRequestError
from charlstm.sampling import DEFAULTS, HELP, TYPES, Sampling, unknown_rule, whole
from pipeline.command_io import MODEL, ModelOption, UnknownOption, open_model, say_unseen
from pipeline.run.project import from_here
from pipeline.run.terminal import plain_console, printable
from pipeline.streams import STDIN, has_stdin, read_file, to_the_end_of_a_pipe

if TYPE_CHECKING:
    from charlstm.language_model.model import Model

SEED_BITS = 32  # short enough to be typed
SEPARATOR = "---"  # a line between texts
Prompt = Annotated[
    str | None,
    typer.Argument(
        help="What the text follows. Without, standard input if it is no terminal, else a newline.",
        show_default=False,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file with it; `-` is standard input.",
        show_default=False,
        callback=from_here,
    ),
]
NumTexts = Annotated[int, typer.Option(help="Several texts, with a line `---` between them.")]
JSON_LINES = "A JSON object a line: prompt, text, why it ended, seed, options."
Json = Annotated[bool, typer.Option("--json", metavar="", help=JSON_LINES)]


FLAGS = {"num_chars": ("--num-chars", "-n"), "keep_stop": ("--keep-stop",)}
METAVARS = {"stop": "TEXT", "keep_stop": ""}


def with_sampling_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command an option for each field of `Sampling`. Typer reads them from its signature."""
    prompt, file, *others, _ = signature(command).parameters.values()
    options = map(_option, DEFAULTS)
    command.__signature__ = Signature([prompt, file, *options, *others])  # type: ignore[attr-defined]
    return command


def _option(name: str) -> Parameter:
    kind, default = TYPES[name], None if name in ("seed", "stop") else DEFAULTS[name]
    flags, metavar = FLAGS.get(name, ()), METAVARS.get(name)
    shown = typer.Option(*flags, help=HELP[name], metavar=metavar, show_default=default is not None)
    return Parameter(
        name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Annotated[kind, shown]
    )


@with_sampling_options
def generate(
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    num_texts: NumTexts = 1,
    unknown: UnknownOption = "error",
    is_json: Json = False,
    model: ModelOption = MODEL,
    **given: Any,  # noqa: ANN401  # the sampling options
) -> int:
    """Write text with a trained model.

    The text alone goes to standard output. A terminal shows the prompt before it, and characters as they are drawn.
    """
    if is_seed_shown := given["seed"] is None:
        given["seed"] = secrets.randbits(SEED_BITS)
    options = Sampling.checked(**given)
    whole("num_texts", num_texts)
    rule, text = unknown_rule(unknown), _prompt(prompt, prompt_file)
    trained = open_model(model)
    from charlstm.unknown_characters import replaced  # numpy

    text = _beginning(trained) if text is None else text
    if rule == "replace":
        say_unseen(text, trained.vocab)
        text = replaced(text, trained.vocab)
    with to_the_end_of_a_pipe():
        if is_json:
            _write_json(trained, text, num_texts, options)
        else:
            _write_texts(trained, text, num_texts, options, is_seed_shown=is_seed_shown)
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
        if any(
            "\ud800" <= character <= "\udfff" for character in prompt
        ):  # as Python has bytes that are not UTF-8
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


def _write_texts(
    model: "Model", prompt: str, num_texts: int, options: Sampling, *, is_seed_shown: bool
) -> None:
    """Write one text as it is drawn, several when they are done. A terminal shows the prompt and the seed as well."""
    is_terminal, is_one, values = sys.stdout.isatty(), num_texts == 1, options._asdict()
    texts = (
        [model.stream(prompt, **values)]
        if is_one
        else model.generate(prompt, num_texts=num_texts, **values)
    )
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
