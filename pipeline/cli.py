"""The command line `charlstm`: what it has, in groups. The commands themselves are in `pipeline/commands/`.

A new command is a module there and a line here. Importing one must be quick: it imports what it does when it runs.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from charlstm.errors import CharlstmError
from pipeline.commands.doctor import doctor
from pipeline.commands.export import export
from pipeline.commands.generate import generate
from pipeline.commands.info import info
from pipeline.commands.new import new
from pipeline.commands.recipe import corpus, recipe
from pipeline.commands.reproduce import reproduce
from pipeline.commands.review import review
from pipeline.commands.score import score
from pipeline.commands.sweep import sweep
from pipeline.commands.sync import sync
from pipeline.commands.trace import trace
from pipeline.commands.ui import ui
from pipeline.stage import settings
from pipeline.stage.project import at_root
from pipeline.stage.stage import guarded
from pipeline.stage.waiting import share_cores

START = "Start: a text of your own"
USE = "Use: a trained model"
REVIEW = "Review: which model do I keep, and why"
LINEAGE = "Lineage: which bytes came from which"
TRACKING = "Tracking: what MLflow has"
USING = ("generate", "score", "info", "export")
NEED_PROJECT = ("new", "recipe", "corpus", "doctor", "ui", "sweep", "trace", "reproduce", "sync")
INTERRUPTED = 130  # typer's code for Ctrl-C

app = typer.Typer(
    help="Start from a text; use, review, trace and repeat trained models. Stages run by `dvc repro`. "
    "All but generate, score, info, export and review need a project: they run in it, or in any folder below.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)
app.command(rich_help_panel=START)(new)
app.command(rich_help_panel=START)(recipe)
app.command(rich_help_panel=START)(corpus)
app.command(rich_help_panel=START)(doctor)
app.command(rich_help_panel=USE)(generate)
app.command(rich_help_panel=USE)(score)
app.command(rich_help_panel=USE)(info)
app.command(rich_help_panel=USE)(export)
app.command(rich_help_panel=REVIEW)(ui)
app.command(rich_help_panel=REVIEW)(review)
app.command(rich_help_panel=REVIEW)(sweep)
app.command(rich_help_panel=LINEAGE)(trace)
app.command(rich_help_panel=LINEAGE)(reproduce)
app.command(rich_help_panel=TRACKING)(sync)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. What a user can fix is one line, and 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(arguments or ["--help"]))


def _run(arguments: list[str]) -> int:
    if sys.stdout is None:  # the next file that is opened would take its number, and what is printed would go there
        raise CharlstmError("standard output is closed (`>&-`): leave it open, or send it to a file or to /dev/null")
    needs_project = arguments[0] in NEED_PROJECT and "--help" not in arguments
    if arguments[0] != "doctor" and "--help" not in arguments:  # the doctor says them all
        settings.check_all()
    if arguments[0] in USING:
        share_cores()
    try:
        with at_root(is_needed=needs_project):
            code = app(arguments, prog_name="charlstm", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "charlstm"
        message = error.format_message().removesuffix(".")
        raise CharlstmError(f"{message}{'' if message.endswith('?') else '.'} See `{path} --help`") from None
    if code == INTERRUPTED and arguments[0] not in USING:  # of those, nothing can resume
        raise KeyboardInterrupt
    return int(code or 0)


def run() -> None:
    """The program: run a command and end.

    What uses a model ends at once: Python would take torch apart for a quarter of the time that a short text takes.
    """
    code = main()
    if sys.argv[1:2] and sys.argv[1] in USING:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
