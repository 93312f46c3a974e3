"""The terminal: any text made safe to show, and a bar for what takes long."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from charlstm.files.pieces import Advance

# Marks that turn the direction of all that follows on a line.
DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str, encoding: str = "utf-8") -> str:
    """`text` as a terminal may have it: tabs and line breaks as they are, each other control character as `\\x1b`.

    A model writes what it has read, and that may be anything. What `encoding` lacks is escaped, too.
    """
    lines = text.replace("\r\n", "\n")
    shown = "".join(
        one.encode("unicode_escape").decode() if _is_control(one) and one not in "\t\n" else one for one in lines
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or ord(character) in DIRECTIONS


# A bar for what takes long, on a terminal.

DELAY_SECONDS = 2  # what is done by then needs no bar


@contextmanager
def progress(what: str, total: int, unit: str = "B") -> Iterator[Advance]:
    """Yields what is to be told of bytes, or of another unit, that are done."""
    from tqdm import tqdm  # most commands have no bar

    with tqdm(
        desc=what, total=total, unit=unit, unit_scale=True, delay=DELAY_SECONDS, disable=None, leave=False
    ) as bar:
        yield bar.update
