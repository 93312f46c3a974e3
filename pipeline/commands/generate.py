"""`charlstm generate`: text from a trained model."""

import gc
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import TextRequestError
from charlstm.sampling import DEFAULTS, Sampling, unknown_rule, whole
from pipeline.stage.project import from_here

MODEL = "artifacts/model"
SEED_BITS = 32  # short enough to be typed
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A model folder, or `models:/NAME@ALIAS` or `runs:/RUN` of MLflow.",
        callback=from_here,
    ),
]
UnknownOption = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="RULE",
        help="Characters that the model never saw: `error`, `nearest` (quotes, dashes, accents and case are folded) or "
        "`skip`.",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Argument(
        help="What the text follows. Without, standard input if it is no terminal, else a newline.", show_default=False
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file with the prompt; `-` is standard input.",
        show_default=False,
        callback=from_here,
    ),
]
NumChars = Annotated[int, typer.Option("--num-chars", "-n", help="Characters of a text.")]
Temperature = Annotated[
    float, typer.Option(help="Divides the logits: lower is safer, 0 always takes the likeliest character.")
]
TopK = Annotated[int | None, typer.Option(help="Only the K likeliest characters.", show_default=False)]
TopP = Annotated[float, typer.Option(help="Only the likeliest characters that have this probability together.")]
MinP = Annotated[
    float, typer.Option(help="Only characters with at least this share of the likeliest one's probability.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed, the same text. Without, a fresh one each time.")]
NumTexts = Annotated[int, typer.Option(help="Several texts, with a line `---` between them.")]
Stop = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="End before this text. May be given several times.", show_default=False),
]
KeepStop = Annotated[bool, typer.Option("--keep-stop", help="End after the text of --stop, not before it.")]
Json = Annotated[bool, typer.Option("--json", help="A JSON object a line: prompt, text, why it ended, seed, options.")]


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
    with quick_import():
        from pipeline.use.writing import Job, write  # torch takes a second: mistakes are told before

    write(model, Job(text, options, num_texts, rule, is_json, seed is None))
    return 0


@contextmanager
def quick_import() -> Iterator[None]:
    """An import of torch without the search for garbage: it makes a million objects, which are all there to stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _prompt(prompt: str | None, file: Path | None) -> str:
    """Of the argument, the file or standard input; a newline if there is none."""
    from pipeline.use.output import STDIN, argument, has_stdin, read_file, without_last_newline

    if prompt is not None and file is not None:
        raise TextRequestError("expected either a PROMPT or --prompt-file FILE, got both")
    if prompt is not None:
        return argument("prompt", prompt)
    if file is None and not has_stdin():
        return "\n"
    if file is not None:
        return without_last_newline(read_file(file))
    return without_last_newline(read_file(STDIN)) or "\n"
