"""Arguments shared by several commands: a model, a text to read and a file to write.

Importing torch takes a second, so torch is imported when a model is opened: mistakes are reported
first.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from charlstm.errors import CharlstmError, CorpusError, ParamsError
from charlstm.tracking.registered_model import download_model, is_address
from pipeline.run.project import (
    ARTIFACTS,
    DATABASE,
    LOCK,
    PARAMS,
    PIPELINE,
    STATE_FOLDER,
    declared_paths,
    find_root,
    from_here,
)
from pipeline.run.store import store
from pipeline.run.terminal import printable

if TYPE_CHECKING:
    from charlstm.language_model.model import Model
    from charlstm.text.vocabulary import Vocab

MODEL = "artifacts/model"
MODEL_HELP = "A model folder, or an address in MLflow: `models:/NAME@ALIAS` or `runs:/RUN`."
ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help=MODEL_HELP, callback=from_here)
]
UnknownOption = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="RULE",
        help="What to do with characters that the model never saw: `error`, "
        "or `replace` them with U+FFFD (leave them out if the model lacks U+FFFD).",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print JSON with all details, one object per result."),
]

# The project's own files and folders, except the stages' outputs, which `dvc.yaml` declares.
OWN = (
    PIPELINE,
    PARAMS,
    LOCK,
    DATABASE,
    ARTIFACTS,
    STATE_FOLDER,
    ".dvc",
    ".git",
    ".venv",
    "charlstm",
    "pipeline",
    "conf",
)
# Eager, so that typer parses --force before it calls the callback of --output.
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the output file if it exists.", is_eager=True)
]

STDIN = Path("-")
MAX_TEXT_BYTES = 500_000_000  # limited, because the whole text is held in memory


def open_model(where: str) -> "Model":
    """Load the model in a folder, or at an address in this project's MLflow store.

    Raises:
        CharlstmError: the folder or the store has no such model.
    """
    # The import creates a million permanent objects. Garbage collection would spend 0.35 s on them.
    gc.disable()
    from charlstm.language_model.model import load

    gc.freeze()
    gc.enable()
    with model_folder(where) as folder:
        return load(folder)


@contextmanager
def model_folder(where: str) -> Iterator[Path]:
    """Yield the model's folder. A model in MLflow is downloaded to a temporary folder.

    Raises:
        CharlstmError: the project's own model is missing, or the MLflow store has no such model.
    """
    if is_address(where):
        with tempfile.TemporaryDirectory() as temporary:
            yield download_model(where, Path(temporary), store())
        return
    if where == MODEL and PIPELINE.is_file() and not Path(where).exists():
        raise CharlstmError(
            f"{where}: there is no model here; train a model with `dvc repro`, or restore the "
            "last model with `dvc checkout`"
        )
    yield Path(where)


def echo_json(document: object, indent: int | None = 2) -> None:
    """Write a document to standard output as JSON, always in UTF-8."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=indent).encode())


def note_unseen(text: str, vocab: "Vocab") -> None:
    """Print to standard error which characters of `text` the model never saw."""
    from charlstm.text.vocabulary import UNSEEN, describe

    if unseen := vocab.unknown(text):
        fate = "left out" if vocab.unknown(UNSEEN) else "read as U+FFFD"
        note = f"note: characters that the model never saw are {fate}: {describe(unseen)}"
        typer.echo(printable(note), err=True)


def read_input(path: Path | None) -> str | None:
    """Return the whole text of a file, or of standard input if `path` is `-` or None.

    Return None if `path` is None and standard input is a terminal or closed.

    Raises:
        CorpusError: the text is not UTF-8 or too long, or standard input is closed.
        OSError: the file cannot be read.
    """
    if path is None and (sys.stdin is None or sys.stdin.isatty()):
        return None
    if path is not None and path != STDIN:
        with path.open("rb") as file:
            return _text_in(file, path)
    if sys.stdin is None:
        raise CorpusError("standard input is closed (`<&-`): pass a text on standard input")
    return _text_in(sys.stdin.buffer, "standard input")


def _text_in(file: BinaryIO, name: object) -> str:
    # A device such as /dev/zero has no end, so the size is limited while reading.
    content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise CorpusError(
            f"{name}: expected a text of at most {MAX_TEXT_BYTES:,} bytes, found a longer text; "
            "use only a part of it"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: expected UTF-8 text, found an invalid byte at offset {error.start}; "
            "convert the text to UTF-8"
        ) from None


def output_path(
    context: typer.Context, option: typer.CallbackParam, path: Path | None
) -> Path | None:
    """Return the checked output path. Commands use this function as the callback of --output.

    A command may replace the file at its default path. Any other existing file needs `--force`.
    """
    if path is None:
        return None
    may_replace = context.params.get("force") or path == option.default
    return checked_output(from_here(path), may_replace=bool(may_replace))


def checked_output(path: Path, *, may_replace: bool = True) -> Path:
    """Return the path to write to. A symbolic link is replaced, never its target.

    Raises:
        CharlstmError: the path belongs to the project; it is a folder or a device; or it is a file
            that may not be replaced.
    """
    place = path.parent.resolve() / path.name
    if root := find_root(place.parent):
        own: list[str | Path] = [*OWN]
        with suppress(ParamsError):  # the `dvc.yaml` may belong to another kind of project
            own += declared_paths(root / PIPELINE).values()
        for name in own:
            if place.is_relative_to((root / name).resolve()):
                raise CharlstmError(
                    f"{path}: {name} belongs to the project: choose another output path"
                )
    if (path.exists() or path.is_symlink()) and not (may_replace and path.is_file()):
        raise CharlstmError(
            f"{path} already exists: choose another name, or pass --force to overwrite a file"
        )
    return path
