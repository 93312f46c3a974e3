"""An MLflow database in a file: its URI, whether SQLite can open it, and a checkout that was moved or copied.

A moved checkout's database still names the old folder of artifacts, as absolute paths. Without `follow_artifacts`, a
copy writes into the artifacts of the original. MLflow has no call that changes such a path, so this module does it in
the database (columns of MLflow 3.17; a database that has others is left as it is).
"""

import contextlib
import logging
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

from charlstm.errors import TrackingError

log = logging.getLogger(__name__)

SECONDS_TO_WAIT = 30.0
MAX_PATH_BYTES = 512 - len("-journal")  # SQLite's own limit on Unix, for the file that it writes beside the first
COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)
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


def path_fault(file: Path) -> str:
    """Why no database can have this path; empty if one can."""
    path = os.fsencode(file.absolute())
    if len(path) > MAX_PATH_BYTES:
        return (
            f"SQLite takes no path of more than {MAX_PATH_BYTES} bytes, and this has {len(path)}: move the checkout "
            "to a shorter one, or set MLFLOW_TRACKING_URI"
        )
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return "MLflow takes no path that is not UTF-8: rename the folder, or set MLFLOW_TRACKING_URI"
    return ""


def check_can_open(uri: str) -> None:
    """MLflow tries ten times to open what cannot be opened, which takes more than a minute: try it once before.

    Raises:
        TrackingError: it is a database in a file, and SQLite cannot open it.
    """
    file = sqlite_file(uri)
    if file is None:
        return
    fault = path_fault(file)
    if not fault:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
            with contextlib.closing(sqlite3.connect(file, timeout=0)) as database:
                database.execute("pragma schema_version")
        except OSError as error:
            fault = str(error.strerror)
        except sqlite3.Error as error:  # one that is locked or damaged is MLflow's to tell
            fault = str(error) if "unable to open" in str(error) else ""
    if fault:
        raise TrackingError(f"no database can be opened: {fault}")


def follow_artifacts(uri: str, former: str, root: str) -> None:
    """Let all that the SQLite store `uri` says to lie below `former` lie below `root`, where it is now."""
    file = sqlite_file(uri)
    if former == root or file is None:
        return
    database = sqlite3.connect(file, timeout=SECONDS_TO_WAIT)
    length = len(former)
    try:
        with contextlib.closing(database), database:  # all columns or none
            for table, column in COLUMNS:  # no LIKE: the `%` and `_` of a path would be wildcards
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (root, length + 1, former, length + 1, f"{former}/"),
                )
    except sqlite3.Error as error:
        log.warning("MLflow's artifacts stay at %s: %s", former, error)
    else:
        log.info("the checkout was moved or copied: MLflow's artifacts are now those in %s", root)
