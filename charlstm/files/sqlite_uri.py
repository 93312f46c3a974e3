"""The URI of a SQLite file."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

# Characters that a URI holds unquoted: printable ASCII, except `?`, which begins a query, and `%`,
# which SQLAlchemy decodes.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file, whose path may have any characters."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # For a URI that begins with `sqlite:///`, MLflow creates the folder, but does not decode its
    # quoted name.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a database URI as SQLAlchemy decodes it. Return None if it has no file."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))
