"""The terminal: text made safe to print, and a plain console."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Marks that change the direction of text, and control characters except tab and line break.
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Return `text` with control characters escaped as in `\x1b`, except tabs and line breaks.

    A model may write any character that it has read. Characters that `encoding` lacks are escaped,
    too.
    """
    shown = UNSAFE.sub(
        lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n")
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> "Console":
    """Return a rich console that prints text unchanged, without markup, emoji names or colors."""
    # Import rich here, so that a broken installation can still report its errors.
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)
