"""Pages of the documentation, their code blocks, and the commands in them."""

import re
import textwrap

from typer.exceptions import TyperException
from typer.main import get_command

from pipeline import cli
from tests.support.projects import ROOT


def problem_of_charlstm(arguments: list[str]) -> str:
    """Return the error that the parser of `charlstm` reports, or an empty string."""
    group = get_command(cli.app_with(arguments[0] if arguments else ""))
    # The parsed command must not run.
    for command in group.commands.values():  # type: ignore[attr-defined]  # it is a group
        command.callback = lambda **_: 0
    try:
        group.main(arguments, standalone_mode=False)
    except TyperException as error:
        return error.format_message()
    return ""


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {file.relative_to(ROOT).as_posix(): file.read_text() for file in DOCUMENTS}
README = PAGES["README.md"]
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PROGRAMS = r"make|charlstm|dvc|python -m|accelerate launch|torchrun|sbatch|git|source"
INLINE = re.compile(rf"`((?:\w+=\S+ )*(?:{PROGRAMS}) [^`]+)`")


def blocks(page: str, language: str) -> list[str]:
    return [textwrap.dedent(body) for found, body in BLOCK.findall(page) if found == language]


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return BLOCK.sub("", page)


def commands_of(page: str) -> set[str]:
    """Return the commands of a page's shell blocks and inline code, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += INLINE.findall(prose(page))
    found = [part.strip() for line in lines for part in re.split(" +[#>]", line)[0].split("&&")]
    return {command for command in found if command}
