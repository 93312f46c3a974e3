"""`charlstm new`: the project set up for a text."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from charlstm.corpus.fetch import local_path
from charlstm.errors import ParamsError
from pipeline.arguments import MODEL_HELP, model_folder
from pipeline.launch import SPIN_COUNT
from pipeline.new.corpus import InitialModel, plan, switch
from pipeline.recipes import CORPORA, load, names
from pipeline.run.dvc import run_dvc
from pipeline.run.project import from_here
from pipeline.run.terminal import printable

TEXT = "A file, a folder, an http(s) URL, or the name of a text in `conf/corpus/`."
NAME = "Name of the text. Default: derived from the file name."
ENCODING = (
    "Encoding of the files, e.g. `cp1251`. Default: detected from the byte-order mark, else UTF-8."
)
FROM = f"Start training from a trained model. {MODEL_HELP}"
MINUTES = (
    "Training time in minutes. Time this machine, and propose the best model for that many minutes."
)
FORCE = "Discard changes in `params.yaml`, and replace files with this name in `conf/`."
RUN = "Also run `dvc repro` (train, evaluate, write samples), and show the result."


def _text(text: str) -> str:
    """Return a URL or a name unchanged, and the path of a file that is valid in the root."""
    path = local_path(text)
    is_name = re.fullmatch(r"[\w-]+", text) and not os.path.lexists(text)
    return text if path is None or is_name else str(from_here(path))


def new(
    text: Annotated[str, typer.Argument(help=TEXT, callback=_text)],
    name: Annotated[str | None, typer.Option(help=NAME)] = None,
    encoding: Annotated[str | None, typer.Option(help=ENCODING)] = None,
    initial: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help=FROM, callback=from_here)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", help=MINUTES, min=0.01, max=10_000)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
    run: Annotated[bool, typer.Option("--run", help=RUN)] = False,
) -> int:
    """Set up the project for your own text.

    Inspect the text, report what was found, and propose a recipe for its size or for your time.
    Then write `conf/corpus/NAME.yaml`, `conf/recipe/NAME.yaml` and `params.yaml`. `dvc repro` does
    the rest. Your text is only read.

    `charlstm new tiny-shakespeare` returns to the text that the project came with.
    """
    if text in names(CORPORA) and not Path(text).exists():
        if any((name, encoding, initial, minutes)):
            source = load(CORPORA, text).values["download.source"]
            raise ParamsError(
                f"expected the name {text} without options: to use options, pass the text's "
                f"source, {source}, instead of its name"
            )
        typer.echo(f"params.yaml: text {text}, recipe {switch(text, force)}")
    else:
        seconds = None if minutes is None else 60 * minutes
        # Steps are timed with the train stage's setting, which is read when torch is imported.
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        with model_folder(initial) if initial else nullcontext() as folder:
            model = InitialModel.load(initial, folder) if initial and folder else None
            planned = plan(text, name, encoding, model, seconds, force=force)
            typer.echo(printable("\n".join(planned.lines)))
            planned.write()
        typer.echo(f"written: {' '.join(map(str, planned.files))}")

    if run:
        result = [sys.executable, "-m", "pipeline", "result"]
        return run_dvc("repro") or subprocess.run(result).returncode
    typer.echo("next: dvc repro")
    return 0
