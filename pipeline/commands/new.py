"""`charlstm new`: one command for a text."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.stage.project import from_here


def new(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="A file, several files, a folder, or an http(s) URL; or the name of a corpus in `conf/corpus/`.",
            show_default=False,
            callback=from_here,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The corpus's name. By default, made of the file's.", show_default=False)
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the files, e.g. `cp1251`. By default, what they must be.", show_default=False)
    ] = None,
    is_documents: Annotated[
        bool, typer.Option("--documents", help="Each file is a document: the model's state begins anew with it.")
    ] = False,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Give up changes in `params.yaml` and in files that it wrote.")
    ] = False,
    is_run: Annotated[
        bool, typer.Option("--run", help="And run `dvc repro`: train, measure, write samples. Show the result.")
    ] = False,
) -> int:
    """Set the project up for a text of your own.

    It looks at the text, says what it found, proposes a recipe by its size, and writes `conf/corpus/NAME.yaml`, a
    recipe if none fits as it is, and `params.yaml`. All else is `dvc repro`. Your text is only read.

    `charlstm new tiny-shakespeare` goes back to the text that the project came with.
    """
    from pipeline.new.corpus import plan, switch
    from pipeline.new.report import closing, report
    from pipeline.stage.presets import CORPORA, names

    if len(texts) == 1 and texts[0] in names(CORPORA) and not Path(texts[0]).exists():
        recipe = switch(texts[0], is_forced)
        typer.echo(f"params.yaml: corpus {texts[0]}, recipe {recipe}")
    else:
        found = plan(texts, name, encoding, is_documents, is_forced)
        for line in report(found):
            typer.echo(line)
        found.write()
        typer.echo(closing(found))
    if not is_run:
        typer.echo("next: dvc repro")
        return 0
    code = subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode
    return code or subprocess.run([sys.executable, "-m", "pipeline.report"], check=False).returncode
