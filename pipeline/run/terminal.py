"""The terminal: any text made safe to show, and a bar for what takes long."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from charlstm.files.pieces import Advance
from charlstm.files.urls import without_credentials

if TYPE_CHECKING:
    from rich.console import Console

# Control characters but for tab and line break, and marks that turn the direction of all that follows on a line.
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SECRET_VARIABLE = re.compile(r"SECRET|PASSW|TOKEN|CREDENTIAL|KEY", re.IGNORECASE)
MIN_SECRET = 6  # characters; shorter values would hide half of a message
DELAY_SECONDS = 2  # what is done by then needs no bar


def printable(text: str, encoding: str = "utf-8") -> str:
    """`text` as a terminal may have it: tabs and line breaks as they are, each other control character as `\\x1b`.

    A model writes what it has read, and that may be anything. What `encoding` lacks is escaped, too.
    """
    shown = UNSAFE.sub(
        lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n")
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def shown_error(error: Exception, url: str) -> str:
    """What is wrong with a store, in one line, without passwords of its URL or of the environment."""
    text = without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))
    hidden = {
        value
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name) and len(value) >= MIN_SECRET
    }
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, "***")
    return f"{text[:300]} ({without_credentials(url)})"


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> "Console":
    """A console of rich that shows text as it is: nothing in it is markup, the name of an emoji, or to be colored."""
    from rich.console import Console  # imported lazily: an error is shown without it

    return Console(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)


@contextmanager
def progress(what: str, total: int, unit: str = "B") -> Iterator[Advance]:
    """A progress bar; yields a function that takes how many more bytes, or other units, are done."""
    from tqdm import tqdm  # most commands have no bar

    with tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=True,
        delay=DELAY_SECONDS,
        disable=None,
        leave=False,
    ) as bar:
        yield bar.update
