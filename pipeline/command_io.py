"""Input and output of commands: the options that name a model, the model, text in its characters, standard streams.

Importing torch takes a second, so it is imported when a model is opened: mistakes are reported first.
"""

import gc
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.errors import CharlstmError
from charlstm.tracking.registered_model import download_model, is_address
from pipeline.run.project import PIPELINE, from_here, store
from pipeline.run.terminal import printable

if TYPE_CHECKING:
    from charlstm.language_model.model import Model
    from charlstm.text.vocabulary import Vocab

MODEL = "artifacts/model"
MODEL_HELP = "A model folder, or `models:/NAME@ALIAS` or `runs:/RUN` of MLflow."
ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help=MODEL_HELP, callback=from_here)
]
UnknownOption = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="RULE",
        help="Characters that the model never saw: `error`, or `replace` (by U+FFFD, or left out).",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", metavar="", help="One JSON object, with all that is known.")
]


def open_model(where: str) -> "Model":
    """The model in a folder, or at an address of MLflow, of the store that runs of this checkout go to.

    Raises:
        CharlstmError: there is none.
    """
    gc.disable()  # the import makes a million objects, which are all there to stay
    try:
        from charlstm.language_model.loading import load, load_from_store
    finally:
        gc.freeze()
        gc.enable()
    if is_address(where):
        return load_from_store(where, store())
    _check_is_there(where)
    return load(where)


@contextmanager
def model_folder(where: str) -> Iterator[Path]:
    """The folder of the model; of one in MLflow, a temporary copy.

    Raises:
        CharlstmError: there is none.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if is_address(where):
            yield download_model(where, Path(temporary), store())
        else:
            _check_is_there(where)
            yield Path(where)


def _check_is_there(where: str) -> None:
    """Where the default model is missing, the error names the commands that make one."""
    if where == MODEL and not Path(where).exists():
        if PIPELINE.is_file():
            raise CharlstmError(
                f"{where}: no model; `dvc repro` makes one, `dvc checkout` brings back the last one"
            )
        raise CharlstmError(
            f"{Path.cwd()}: this is no project, so it has no model; name the folder of one"
        )


def say_unseen(text: str, vocab: "Vocab") -> None:
    """Say on standard error which characters of a text the model never saw, and how they are read."""
    from charlstm.text.vocabulary import UNSEEN, describe

    if unseen := vocab.unknown(text):
        fate = "left out" if vocab.unknown(UNSEEN) else "read as U+FFFD"
        _say(f"note: characters that the model never saw are {fate}: {describe(unseen)}")


def _say(note: str) -> None:
    if sys.stderr is not None:  # it is None if it is closed (`2>&-`)
        typer.echo(printable(note, sys.stderr.encoding), err=True)
