"""The model that a command uses: its options, its address and its folder.

Importing torch takes a second, so torch is imported when a model is opened: mistakes are reported
first.
"""

import gc
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.errors import CharlstmError
from charlstm.tracking.download import download_model, is_address
from pipeline.run.project import PIPELINE, from_here, store
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
