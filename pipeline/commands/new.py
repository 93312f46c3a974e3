"""`charlstm new`: one command for a text."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.corpus.conversion import local_path
from charlstm.errors import ParamsError
from pipeline.dvc.queue import run_dvc
from pipeline.hardware import num_cores
from pipeline.new.corpus import New, plan, switch
from pipeline.new.proposal import FEW, TRAIN_FRACTION
from pipeline.new.text_report import oddities, summary
from pipeline.stage.presets import CORPORA, load, names
from pipeline.stage.project import from_here, path_from_here
from pipeline.stage.terminal import printable
from pipeline.use import MODEL_HELP, model_folder

if TYPE_CHECKING:
    from pipeline.new.initial import InitialModel

MINUTE, HOUR = 60, 3600
MAX_MINUTES = 10_000


def a_time(minutes: float | None) -> float | None:
    """Minutes that a user typed. For options, as their callback."""
    if minutes is not None and not 0 < minutes <= MAX_MINUTES:  # nor NaN
        raise typer.BadParameter(f"expected more than 0 and at most {MAX_MINUTES:,}, got {minutes:g}")
    return minutes


From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help=f"Begin from a trained model. {MODEL_HELP}",
        show_default=False,
        callback=from_here,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Propose what makes the best model in so many minutes of training on this machine, which is timed first.",
        show_default=False,
        callback=a_time,
    ),
]


def new(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="A file, several files, a folder, or an http(s) URL; or the name of a corpus in `conf/corpus/`.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The corpus's name. By default, made of the file's.", show_default=False)
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the files, e.g. `cp1251`. By default, what they must be.", show_default=False)
    ] = None,
    initial: From = None,
    minutes: Minutes = None,
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

    It looks at the text, says what it found, proposes a recipe by its size or for your time, and writes
    `conf/corpus/NAME.yaml`, a recipe if none fits as it is, and `params.yaml`. All else is `dvc repro`. Your text is
    only read.

    `charlstm new tiny-shakespeare` goes back to the text that the project came with.
    """
    seconds = None if minutes is None else MINUTE * minutes
    if corpora := [text for text in texts if text in names(CORPORA) and not Path(path_from_here(text)).exists()]:
        of_a_text = {"--name": name, "--encoding": encoding, "--from": initial, "--minutes": minutes}
        _check_alone(corpora[0], texts, {**of_a_text, "--documents": is_documents or None})
        recipe = switch(texts[0], is_forced)
        typer.echo(f"params.yaml: corpus {texts[0]}, recipe {recipe}")
    else:
        with _model_of(initial) as model:
            texts = [path_from_here(str(path)) if (path := local_path(text)) else text for text in texts]
            options = {"is_documents": is_documents, "is_forced": is_forced}
            planned = plan(texts, name, encoding, model, seconds, **options)
            for line in _lines(planned, seconds, model):
                typer.echo(printable(line.replace("\n", "\\n"), sys.stdout.encoding or "utf-8"))
            replaced = planned.replaced()
            planned.write()
        if replaced:
            typer.echo(f"replaced: {' '.join(map(str, replaced))}; with another --name, both would be there")
        typer.echo(f"written: {' '.join(map(str, planned.files))}")
        typer.echo("back to tiny Shakespeare: charlstm new tiny-shakespeare")
    if is_run:
        return _run_stages()
    typer.echo("next: dvc repro")
    return 0


def _check_alone(corpus: str, texts: Sequence[str], options: Mapping[str, object]) -> None:
    """Check that nothing was said beside the name of a corpus that is for texts."""
    if len(texts) > 1:
        raise ParamsError(f"expected one corpus by its name, or files, got {corpus} among {len(texts)} of them")
    for option, value in options.items():
        if value is not None:
            source = load(CORPORA, corpus).values["download.source"]
            raise ParamsError(
                f"{option}: expected a text to go with it, got the corpus {corpus}: name its source, {source}"
            )


def _run_stages() -> int:
    return run_dvc("repro") or subprocess.run([sys.executable, "-m", "pipeline.report"], check=False).returncode


@contextmanager
def _model_of(where: str | None) -> "Iterator[InitialModel | None]":
    """The model to begin from, if one is named."""
    if where is None:
        yield None
        return
    from pipeline.new.initial import find_initial  # it takes torch

    with model_folder(where) as folder:
        yield find_initial(where, folder)


def _lines(new: New, within: float | None, model: "InitialModel | None") -> Iterator[str]:
    """Lines that say what the text is, what is odd about it, and what is proposed for it."""
    from charlstm.training.processes import multiplies_bf16  # torch takes a second: mistakes are told before

    yield new.source.shown
    yield from (f"  {line}" for line in summary(new.report))
    yield from (f"  ! {line}" for line in oddities(new.report))
    number = len(new.source.files)
    if number > 1 and new.separator:
        between = f"{new.separator!r} between them, after which the model's state begins anew"
        yield f"  {number} documents, with {between}"
    elif number > 1:
        between = "a line break between them (--documents: the state begins anew in each)"
        yield f"  {number} files in this order, with {between}"
    yield "proposal:"
    yield from (f"  {line}" for line in new.proposal.reasons)
    if new.initial is None and new.report.num_chars * TRAIN_FRACTION < FEW:
        begin = "beginning from a model of a longer text in the same language (--from MODEL)"
        yield f"  a short text: {begin} may help more than time"
    if model and new.initial and new.initial.sha256 != model.sha256:
        yield f"  {model.where} is what this recipe has made, so it begins as before; --force begins from {model.where}"
    if new.proposal.training is None:
        yield "  as it was planned before, so that an interrupted training goes on; --force measures this machine again"
        return
    if within is not None:  # it says so itself
        return
    cores = num_cores()
    duration = _rounded(new.proposal.training.seconds(cores, multiplies_bf16("cpu")))
    where = "1 core" if cores == 1 else f"{cores} cores"
    yield f"  about {duration} of training on {where}, if nothing else runs; --minutes N measures this machine"


def _rounded(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{round(seconds / MINUTE)} minutes" if seconds >= 1.5 * MINUTE else "a minute"
    return f"{round(seconds / HOUR)} hours"
