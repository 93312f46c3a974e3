"""The model that a command is told, and text in its characters."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from charlstm.errors import ModelFolderError, TextRequestError, VocabularyError
from charlstm.language_model.model import Model, load, load_from_store
from charlstm.sampling import Unknown
from charlstm.text.prompts import fold
from charlstm.text.vocabulary import ByteVocab, Vocab
from charlstm.tracking.registered_model import download_model, is_address
from pipeline.commands.generate import MODEL
from pipeline.stage.project import PIPELINE
from pipeline.stage.tracking_store import store
from pipeline.use.output import note_of


def open_model(where: str) -> Model:
    """The model in a folder, or at an address of MLflow, of the store that runs of this checkout go to.

    Raises:
        CharlstmError: there is none.
    """
    if is_address(where):
        return load_from_store(where, store())
    check_is_there(where)
    return load(where)


def check_is_there(where: str) -> None:
    """Nothing, if there is a project or a model, or one was named.

    Raises:
        ModelFolderError: none was.
    """
    if where == MODEL and not Path(where).exists():
        if Path(PIPELINE).is_file():
            raise ModelFolderError(f"{where}: no model yet; `dvc repro` makes one")
        raise ModelFolderError(f"{Path.cwd()}: this is no project, so it has no model; name one by --model FOLDER")


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
            check_is_there(where)
            yield Path(where)


def readable(model: Model, name: str, text: str, unknown: Unknown) -> str:
    """`text` with its unknown characters exchanged; by which, is told on standard error.

    With the rule `error` it stays as it is: the model says what is wrong.

    Raises:
        TextRequestError: a character has no near one.
    """
    if unknown == "error":
        return text
    try:
        characters = model.info["characters"]
        folded = fold(text, ByteVocab() if characters is None else Vocab(characters), unknown)
    except VocabularyError as error:
        raise TextRequestError(f"{name}: {error}") from None
    if folded.replaced:
        typer.echo(note_of(folded.replaced), err=True)
    return folded.text
