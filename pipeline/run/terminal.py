"""The terminal: text made safe to print, and a plain console."""

import os
import re
from typing import TYPE_CHECKING

from charlstm.files.urls import without_credentials

if TYPE_CHECKING:
    from rich.console import Console

# Marks that change the direction of text, and control characters except tab and line break.
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SECRET_VARIABLE = re.compile(r"SECRET|PASSW|TOKEN|CREDENTIAL|KEY", re.IGNORECASE)
# Minimum length of a secret. Hiding shorter values would also hide parts of ordinary words.
MIN_SECRET = 6


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Return `text` with control characters escaped as in `\x1b`, except tabs and line breaks.

    A model may write any character that it has read. Characters that `encoding` lacks are escaped,
    too.
    """
    shown = UNSAFE.sub(
        lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n")
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def shown_error(error: Exception, url: str) -> str:
    """Return a store's error as one line, without secrets from its URL or the environment."""
    text = without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))
    secrets = {value for name, value in os.environ.items() if SECRET_VARIABLE.search(name)}
    # Replace the longest secret first, because it may contain a shorter secret.
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= MIN_SECRET:
            text = text.replace(value, "***")
    return f"{text[:300]} ({without_credentials(url)})"


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> "Console":
    """Return a rich console that prints text unchanged, without markup, emoji names or colors."""
    # Import rich here, so that a broken installation can still report its errors.
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, stderr=stderr, soft_wrap=soft_wrap)
