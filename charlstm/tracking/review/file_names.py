"""Names for the files of generated texts, in ASCII, which every system can write."""

import re
import unicodedata

from charlstm.tracking.review.collect import Generated


def file_name(index: int, row: Generated) -> str:
    """E.g. `02-romeo-temperature-0.8-seed-1.txt`: in the table's order, readable in a list."""
    return f"{index:02d}-{_words(row.prompt)}-temperature-{row.temperature}-seed-{row.seed}.txt"


def _words(prompt: str) -> str:
    """A prompt as part of a file name, in ASCII, which every system can write.

    Letters lose their accents, those of other alphabets become code points, and the rest does where it is all there is.
    """
    plain = "".join(one for one in unicodedata.normalize("NFKD", prompt.lower()) if not unicodedata.combining(one))
    spelled = "".join(one if one.isascii() else _code_point(one) if one.isalnum() else "-" for one in plain)
    rest = "".join(_code_point(one) for one in prompt if not one.isascii())
    return _joined(spelled) or _joined(rest) or "newline"


def _joined(words: str) -> str:
    return re.sub(r"\W+", "-", words).strip("-")[:20]


def _code_point(character: str) -> str:
    return f"-u{ord(character):x}-"
