"""`charlstm doctor`: will this run?"""

import sys

import typer

from pipeline.doctor.examination import examine
from pipeline.stage.stage import EXIT_BAD_INPUT
from pipeline.stage.terminal import printable


def doctor() -> int:
    """Check everything that can be checked before a training.

    Parameters, text, prompts, disk, tracker, versions, folders: each fault is a line that says where it is and what
    to do. The first line says which corpus and recipe `params.yaml` has, and what differs from
    them. Nothing is changed. `make repro` runs it first, and the train stage runs what concerns
    training.

    Exit code: 0, also with warnings; 2 if there is an error.
    """
    parameters, findings = examine()
    if parameters:
        typer.echo(f"params.yaml: {parameters}")
    for finding in findings:
        line = f"{'ERROR' if finding.is_error else 'WARNING'}: {' '.join(finding.text.split())}"
        typer.echo(printable(line, sys.stderr.encoding), err=True)
    if not findings:
        typer.echo("nothing is wrong")
    return EXIT_BAD_INPUT if any(finding.is_error for finding in findings) else 0
