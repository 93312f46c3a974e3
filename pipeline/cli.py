"""The command line `charlstm`: what it has, in groups. The commands themselves are in `pipeline/commands/`.

A new command is a module there and a line here. Only the module of the command that is given is imported: MLflow, torch
and pandas take seconds, and the list of all commands needs none of them.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from charlstm.errors import CharlstmError
from pipeline.run.project import at_root, check_settings
from pipeline.run.stage import guarded

USE = "Use: a trained model"
COMMANDS = {  # by group: the module, and what the list of commands says, the first line of its docstring
    "Start: a text of your own": {
        "new": ("new", "Set the project up for a text of your own."),
        "recipe": ("recipe", "List recipes, write one into `params.yaml`, or keep one."),
        "doctor": ("doctor", "Check versions, `PATH`, git, DVC, disk, processor and stores."),
    },
    USE: {
        "generate": ("generate", "Write text with a trained model."),
        "score": ("score", "Score a text, and find its most surprising lines."),
        "info": ("info", "Show the card of a model: sizes, text, commit, losses."),
        "export": ("export", "Write a trained model as an ONNX file, or copy it with its card."),
    },
    "Review: which model do I keep, and why": {
        "ui": ("ui", "Open MLflow's page of the runs of each text, in the right view."),
        "review": ("review", "Put models side by side in one page."),
        "sweep": ("sweep", "Train several values of parameters, compare them, keep the best."),
    },
    "Lineage: which bytes came from which": {
        "trace": ("trace", "List all trainings, or say what one was made of."),
        "reproduce": ("reproduce", "Make a model again and compare every output."),
    },
    "Tracking: what MLflow has": {"sync": ("sync", "Send to MLflow what a server has missed.")},
}
USING = tuple(COMMANDS[USE])
NEED_NO_PROJECT = (*USING, "review")
INTERRUPTED = 130  # typer's code for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. What a user can fix is one line, and 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(arguments or ["--help"]))


def app_with(given: str) -> typer.Typer:
    """The program with all commands: the `given` one as it is; of the others, what the list of commands says."""
    app = typer.Typer(
        help="Start from a text; use, review, trace and repeat trained models. Stages run by `dvc repro`. "
        "All but generate, score, info, export and review need a project: they run in it, or in any folder below.",
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for group, commands in COMMANDS.items():
        for name, (module, summary) in commands.items():
            function = (
                getattr(import_module(f"pipeline.commands.{module}"), name)
                if name == given
                else lambda: None
            )
            app.command(name, help=None if name == given else summary, rich_help_panel=group)(
                function
            )
    return app


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"charlstm {version('charlstm')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
]


def _options(is_version_asked: Version = False) -> None:
    pass


def _run(arguments: list[str]) -> int:
    if (
        sys.stdout is None
    ):  # the next file that is opened would take its number, and what is printed would go there
        raise CharlstmError(
            "standard output is closed (`>&-`): leave it open, or send it to a file or to /dev/null"
        )
    is_command = any(arguments[0] in commands for commands in COMMANDS.values())
    needs_project = is_command and arguments[0] not in NEED_NO_PROJECT and "--help" not in arguments
    if arguments[0] != "doctor" and "--help" not in arguments:  # the doctor says them all
        check_settings()
    try:
        with at_root(is_needed=needs_project):
            code = app_with(arguments[0])(arguments, prog_name="charlstm", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "charlstm"
        message = error.format_message().removesuffix(".")
        raise CharlstmError(
            f"{message}{'' if message.endswith('?') else '.'} See `{path} --help`"
        ) from None
    if code == INTERRUPTED and arguments[0] not in USING:  # of those, nothing can resume
        raise KeyboardInterrupt
    return int(code or 0)


def run() -> None:
    """The program: run a command and end.

    It ends at once. Python would take torch apart for a quarter of the time that a short text takes, and wait for the
    threads of a store that does not answer.
    """
    code = main()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
