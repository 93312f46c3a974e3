"""A checkout that was moved or copied: its MLflow database still names the old folder of artifacts, as absolute paths.

Without this, a copy writes into the artifacts of the original. MLflow has no call that changes such a path, so this
module does it in the database (columns of MLflow 3.17; a database that has others is left as it is).
"""

import contextlib
import logging
import sqlite3

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
SECONDS_TO_WAIT = 30.0
COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)


def follow_artifacts(uri: str, former: str, root: str) -> None:
    """Let all that the SQLite store `uri` says to lie below `former` lie below `root`, where it is now."""
    if former == root or not uri.startswith(SQLITE):
        return
    database = sqlite3.connect(uri.removeprefix(SQLITE), timeout=SECONDS_TO_WAIT)
    try:
        with contextlib.closing(database), database:  # all columns or none
            for table, column in COLUMNS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ?",
                    (root, len(former) + 1, former, f"{former}/%"),
                )
    except sqlite3.Error as error:
        log.warning("MLflow's artifacts stay at %s: %s", former, error)
    else:
        log.info("the checkout was moved or copied: MLflow's artifacts are now those in %s", root)
