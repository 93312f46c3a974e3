"""Is a command of a document one that `charlstm` would take?"""

from typer.exceptions import TyperException
from typer.main import get_command

from pipeline import cli


def problem_of_charlstm(arguments: list[str]) -> str:
    """What is wrong; nothing if all is well. Its own parser is asked, with commands that do nothing."""
    group = get_command(cli.app_with(arguments[0] if arguments else ""))
    for command in group.commands.values():  # type: ignore[attr-defined]  # it is a group
        command.callback = lambda **_: 0
    try:
        group.main(arguments, standalone_mode=False)
    except TyperException as error:
        return error.format_message()
    return ""
