"""`charlstm generate`: text from a trained model, shown on a terminal while it is generated."""

import re
import secrets
import sys
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.errors import CorpusError, TextRequestError
from charlstm.sampling import DEFAULTS, HELP, TYPES, Sampling, checked_number, unknown_rule
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
    from charlstm.language_model.model import Model

SEED_BITS = 32  # few enough that a seed is easy to type
SEPARATOR = "---"  # a line between texts

# Options that need other names than typer derives from the fields of `Sampling`.
FLAGS = {"num_chars": ("--num-chars", "-n"), "keep_stop": ("--keep-stop",)}
METAVARS = {"stop": "TEXT", "keep_stop": ""}


def with_sampling_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each field of `Sampling` to the command's signature, which typer reads."""
    prompt, file, *others, _ = signature(command).parameters.values()
    options = map(_option, DEFAULTS)
    vars(command)["__signature__"] = Signature([prompt, file, *options, *others])
    return command


def _option(name: str) -> Parameter:
    default = None if name in ("seed", "stop") else DEFAULTS[name]
    shown = typer.Option(*FLAGS.get(name, ()), help=HELP[name], metavar=METAVARS.get(name))
    return Parameter(
        name,
        Parameter.POSITIONAL_OR_KEYWORD,
        default=default,
        annotation=Annotated[TYPES[name], shown],
    )


@with_sampling_options
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The beginning of the text. "
            "Default: standard input unless it is a terminal, else a newline."
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with the prompt; `-` is standard input.",
            callback=from_here,
        ),
    ] = None,
    num_texts: Annotated[
        int, typer.Option(help="Number of texts. A line `---` separates them.")
    ] = 1,
    unknown: UnknownOption = "error",
    as_json: JsonOption = False,
    model: ModelOption = MODEL,
    **given: Any,  # noqa: ANN401  # the sampling options
) -> int:
    """Generate text with a trained model.

    Standard output receives only the text. A terminal also shows the prompt before the text, and
    shows characters as they are generated.
    """
    is_seed_shown = given["seed"] is None
    if is_seed_shown:
        given["seed"] = secrets.randbits(SEED_BITS)
    options = Sampling.checked(**given)
    checked_number("num_texts", num_texts)
    rule = unknown_rule(unknown)
    text = _prompt(prompt, prompt_file)
    trained = open_model(model)
    from charlstm.text.prompts import replaced  # imports numpy

    text = _beginning(trained) if text is None else text
    if rule == "replace":
        note_unseen(text, trained.vocab)
        text = replaced(text, trained.vocab)
    if as_json:
        _write_json(trained, text, num_texts, options)
        return 0
    try:
        _write_texts(trained, text, num_texts, options)
    finally:
        if is_seed_shown and sys.stdout.isatty():
            typer.echo(f"again: --seed {options.seed}", err=True)
    return 0


def _beginning(model: "Model") -> str:
    """Return the default prompt: a newline if it is known, else the first known character."""
    known = model.info["characters"]
    return "\n" if known is None or "\n" in known else str(known[0])


def _prompt(prompt: str | None, file: Path | None) -> str | None:
    """Return the prompt from the argument, the file or standard input, else None."""
    if prompt is not None and file is not None:
        raise TextRequestError(
            "expected either a PROMPT or --prompt-file FILE, got both: omit one of them"
        )
    if prompt is not None:
        # If an argument is not valid UTF-8, Python represents the invalid bytes as surrogates.
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise CorpusError(f"prompt: expected valid UTF-8 text, got {prompt!r}")
        return prompt
    # Drop one newline at the end of the file. The shell's `$(cat FILE)` would drop all of them.
    return re.sub(r"\r?\n\Z", "", read_input(file) or "") or None


def _write_json(model: "Model", prompt: str, num_texts: int, options: Sampling) -> None:
    values = options._asdict()
    for index, text in enumerate(model.generate(prompt, num_texts=num_texts, **values)):
        line = {"prompt": prompt, "text": text, "reason": text.reason, "index": index, **values}
        line["model_sha256"] = model.info["model_sha256"]
        echo_json(line, indent=None)


def _write_texts(model: "Model", prompt: str, num_texts: int, options: Sampling) -> None:
    """Write a single text while it is generated, or several texts when they are complete.

    A terminal shows the prompt as well.
    """
    values = options._asdict()
    texts: Iterable[Iterable[str]]
    if num_texts == 1:
        texts = [model.stream(prompt, **values)]
    else:
        texts = model.generate(prompt, num_texts=num_texts, **values)
    try:
        for index, text in enumerate(texts):
            if index:
                _write(f"{SEPARATOR}\n")
            if sys.stdout.isatty():
                typer.secho(printable(prompt), dim=True, nl=False)
            _write(text)
            _write("\n")
    except KeyboardInterrupt:
        _write("\n")  # the shell's next prompt starts on a line of its own
        raise


def _write(pieces: Iterable[str]) -> None:
    """Write escaped text to a terminal without delay, or raw UTF-8 to a file or pipe."""
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode())
        sys.stdout.flush()
        return
    pending = ""
    for piece in pieces:
        pending += piece
        if piece != "\r":  # the next piece may be the LF of a CR LF, which is shown as one newline
            sys.stdout.write(printable(pending))
            sys.stdout.flush()
            pending = ""
