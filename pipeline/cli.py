"""The `charlstm` command line.

To add a command, add a module to `pipeline/commands/` and a line to `COMMANDS`. Only the requested
command's module is imported. MLflow, torch and pandas take seconds to import, and the list of
commands needs none of them.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from charlstm.errors import CharlstmError
from pipeline.run.project import at_root
from pipeline.run.settings import check_settings
from pipeline.run.stage import end_process, errors_reported

USE = "Use: a trained model"
# Group -> command -> summary. A summary repeats the first line of the command's help.
COMMANDS = {
    "Start: your own text": {
        "new": "Set up the project for your own text.",
        "recipe": "List recipes, copy one into `params.yaml`, or save the parameters as a recipe.",
        "doctor": "Check package versions, `PATH`, git, DVC, disk space, GPU and MLflow.",
    },
    USE: {
        "generate": "Generate text with a trained model.",
        "score": "Score a text and find its most surprising lines.",
        "info": "Show a model's card: sizes, text, commit and losses.",
        "export": "Export a trained model to an ONNX file, or copy it with its model card.",
    },
    "Review: which model to keep, and why": {
        "ui": "Start MLflow's UI and print the address of each text's runs.",
        "review": "Compare models side by side on one page.",
        "sweep": "Train with several parameter values, compare the models, and keep the best.",
    },
    "Lineage: which bytes came from which": {
        "trace": "List all trainings, or show the origin of a model.",
        "reproduce": "Train a model again and compare every output.",
    },
    "Tracking: runs in MLflow": {"sync": "Send MLflow the trainings and results that it lacks."},
}
NEED_PROJECT = set().union(*COMMANDS.values()) - {*COMMANDS[USE], "review"}
INTERRUPTED = 130  # typer's exit code for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    An error that the user can fix is reported in one line, with exit code 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with errors_reported() as outcome:
        outcome.code = _run(arguments or ["--help"])
    return outcome.code


def app_with(given: str) -> typer.Typer:
    """Return the Typer app. Import only the `given` command, and add summaries of the others."""
    app = typer.Typer(
        help="Set up a project for your text; use, compare, trace and reproduce trained models. "
        "`dvc repro` runs the stages. generate, score, info, export and review work in any folder. "
        "Run the other commands inside a project.",
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for group, commands in COMMANDS.items():
        for name, summary in commands.items():
            command = _not_imported
            if name == given:
                command = getattr(import_module(f"pipeline.commands.{name}"), name)
                command = at_root(required=name in NEED_PROJECT)(command)
            app.command(name, short_help=summary, rich_help_panel=group)(command)
    return app


def run() -> None:
    """Run a command, and end this process with the command's exit code."""
    end_process(main())


def _not_imported() -> None:
    """Stand in for a command that the user did not request."""


def _show_version(version_requested: bool) -> None:
    if version_requested:
        typer.echo(f"charlstm {version('charlstm')}")
        raise typer.Exit


def _options(
    version_requested: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


def _run(arguments: list[str]) -> int:
    if sys.stdout is None:
        # The next opened file would get file descriptor 1, and would receive all printed text.
        raise CharlstmError(
            "standard output is closed (`>&-`): leave it open, or redirect it, e.g. to /dev/null"
        )
    given = arguments[0]
    if "--help" not in arguments:
        check_settings()
    try:
        code = app_with(given)(arguments, prog_name="charlstm", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "charlstm"
        raise CharlstmError(f"{error.format_message()} (see `{path} --help`)") from None

    # Exit code 75 means "try again", but a command that uses a model has nothing to resume.
    if code == INTERRUPTED and given not in COMMANDS[USE]:
        raise KeyboardInterrupt
    return int(code or 0)


if __name__ == "__main__":
    run()
