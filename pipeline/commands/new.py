"""`charlstm new`: one command for a text."""

import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from charlstm.corpus.fetch import local_path
from charlstm.errors import ParamsError
from pipeline.command_io import MODEL_HELP, model_folder
from pipeline.launch import SPIN_COUNT
from pipeline.new.corpus import InitialModel, plan, switch
from pipeline.recipes import CORPORA, load, names
from pipeline.run.dvc import run_dvc
from pipeline.run.project import from_here, path_from_here
from pipeline.run.terminal import printable

option = partial(typer.Option, show_default=False)

TEXT = "A file, a folder, or an http(s) URL; or the name of a text in `conf/corpus/`."
NAME = "The text's name. By default, made of the file's."
ENCODING = "Of the files, e.g. `cp1251`. By default, what they must be."
FROM = f"Begin from a trained model. {MODEL_HELP}"
MINUTES = "Propose what makes the best model in so many minutes of training on this machine, which is timed first."
DOCUMENTS = "Each file of a folder is a document: the model's state begins anew with it."
FORCE = "Give up changes in `params.yaml`, and replace files of this name in `conf/`."
RUN = "And run `dvc repro`: train, measure, write samples. Show the result."


def new(
    text: Annotated[str, typer.Argument(help=TEXT, show_default=False)],
    name: Annotated[str | None, option(help=NAME)] = None,
    encoding: Annotated[str | None, option(help=ENCODING)] = None,
    initial: Annotated[
        str | None, option("--from", metavar="MODEL", help=FROM, callback=from_here)
    ] = None,
    minutes: Annotated[
        float | None, option(metavar="N", help=MINUTES, min=0.01, max=10_000)
    ] = None,
    is_documents: Annotated[bool, option("--documents", help=DOCUMENTS)] = False,
    is_forced: Annotated[bool, option("--force", help=FORCE)] = False,
    is_run: Annotated[bool, option("--run", help=RUN)] = False,
) -> int:
    """Set the project up for a text of your own.

    It looks at the text, says what it found, proposes a recipe by its size or for your time, and writes
    `conf/corpus/NAME.yaml`, `conf/recipe/NAME.yaml` and `params.yaml`. All else is `dvc repro`. Your text is only read.

    `charlstm new tiny-shakespeare` goes back to the text that the project came with.
    """
    if text in names(CORPORA) and not Path(path_from_here(text)).exists():
        if any((name, encoding, initial, minutes, is_documents)):
            source = load(CORPORA, text).values["download.source"]
            raise ParamsError(
                f"expected the name {text} alone: options are for a text, as its source, {source}"
            )
        typer.echo(f"params.yaml: text {text}, recipe {switch(text, is_forced)}")
    else:
        text = path_from_here(str(path)) if (path := local_path(text)) else text
        seconds = None if minutes is None else 60 * minutes
        os.environ.setdefault(
            "GOMP_SPINCOUNT", SPIN_COUNT
        )  # as for stage train; read when torch is loaded
        with model_folder(initial) if initial else nullcontext() as folder:
            model = InitialModel.load(initial, folder) if initial and folder else None
            planned = plan(
                text, name, encoding, model, seconds, is_documents=is_documents, is_forced=is_forced
            )
            for line in planned.lines:
                typer.echo(printable(line, sys.stdout.encoding or "utf-8"))
            planned.write()
        typer.echo(f"written: {' '.join(map(str, planned.files))}")
    if is_run:
        return (
            run_dvc("repro")
            or subprocess.run([sys.executable, "-m", "pipeline.report"], check=False).returncode
        )
    typer.echo("next: dvc repro")
    return 0
