"""The URI of a SQLite file."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

# As it is in a URI: what is printed, but for `?`, which begins a query, and `%`, which SQLAlchemy decodes.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """The URI of the database in `file`, whatever characters its path has."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # Of what begins with `sqlite:///`, MLflow makes the folder, under the name as it is in the URI.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a database, as SQLAlchemy reads its URI; None if the URI is of something else."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))
