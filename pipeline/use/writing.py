"""`charlstm generate`: texts, on a terminal as they are drawn."""

import json
import sys
from typing import NamedTuple

import typer

from charlstm.language_model.model import Model
from charlstm.sampling import Sampling, Unknown
from pipeline.stage.terminal import printable
from pipeline.use.models import open_model, readable
from pipeline.use.output import Output, to_the_end_of_a_pipe

SEPARATOR = "---"  # a line between texts


class Job(NamedTuple):
    """What is to be written, checked as far as that goes without the model."""

    prompt: str
    options: Sampling
    num_texts: int
    unknown: Unknown
    is_json: bool
    is_seed_fresh: bool


def write(where: str, job: Job) -> None:
    """Write the texts to standard output."""
    model, output = open_model(where), Output()
    job = job._replace(prompt=readable(model, "prompt", job.prompt, job.unknown))
    with to_the_end_of_a_pipe():
        try:
            if job.is_json:
                _write_json(model, job)
            else:
                _write_texts(model, job, output)
        finally:
            output.end_line()
            if job.is_seed_fresh and output.is_terminal and not job.is_json:
                typer.echo(f"again: --seed {job.options.seed}", err=True)


def _write_json(model: Model, job: Job) -> None:
    options = job.options._asdict()
    for index, text in enumerate(model.generate(job.prompt, num_texts=job.num_texts, **options)):
        line = {"prompt": job.prompt, "text": text, "reason": text.reason, "index": index, **options}
        line["model_sha256"] = model.info["model_sha256"]
        typer.echo(json.dumps(line, ensure_ascii=False).encode())


def _write_texts(model: Model, job: Job, output: Output) -> None:
    """One text as it is drawn, several when they are done."""
    options = job.options._asdict()
    if job.num_texts == 1:
        _show_prompt(job.prompt, output)
        output.stream(model.stream(job.prompt, **options))
        output.end()
        return
    for index, text in enumerate(model.generate(job.prompt, num_texts=job.num_texts, **options)):
        if index:
            output.write(f"{SEPARATOR}\n")
        _show_prompt(job.prompt, output)
        output.write(text)
        output.end()


def _show_prompt(prompt: str, output: Output) -> None:
    """On a terminal only, dimmed."""
    if output.is_terminal:
        from rich.console import Console  # text that goes elsewhere has no color
        from rich.text import Text

        shown = Text(printable(prompt, sys.stdout.encoding), style="dim")
        Console(highlight=False, soft_wrap=True).print(shown, end="")
