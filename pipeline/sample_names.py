"""File names of generated texts."""

import re
import unicodedata

from charlstm.report.collect import SampleRow


def file_name(index: int, row: SampleRow) -> str:
    """Return a file name such as `02-romeo-temperature-0.8-seed-1.txt`. `index` sorts the files."""
    return f"{index:02d}-{_words(row.prompt)}-temperature-{row.temperature}-seed-{row.seed}.txt"


def _words(prompt: str) -> str:
    """Return a prompt's first ASCII letters and digits, without accents, for use in a file name."""
    plain = unicodedata.normalize("NFKD", prompt.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"\W+", "-", plain).strip("-")[:20] or ("newline" if prompt.isspace() else "text")
