"""The URI of a SQLite file."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

# Characters that stay unquoted in a URI: printable ASCII except `?` and `%`.
# A `?` would begin a query, and SQLAlchemy would decode a `%`.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file. The path of the file may contain any characters."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # If a URI begins with `sqlite:///`, MLflow creates the folder under its quoted name.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the SQLite file that a database URI names, or None if the URI names no such file."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))
