"""Whether MLflow's store can be reached. Training never waits for it, so nothing here is an error."""

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from charlstm.errors import TrackingError
from charlstm.storage.urls import without_credentials
from charlstm.tracking.sqlite_store import path_fault, sqlite_file
from pipeline.common.tracking_store import store
from pipeline.doctor.finding import Finding, error, warning

SECONDS = 2.0
LATER = "training does not wait for it, and `charlstm sync` sends later what it missed"
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check() -> Iterator[Finding]:
    """The store that the stages will use."""
    try:
        uri = store().uri
    except TrackingError as fault:
        yield error(f"tracker: {fault}")
        return
    scheme, file = urlsplit(uri).scheme.partition("+")[0].lower(), sqlite_file(uri)
    reason = _file_fault(file) if file else _server_fault(uri, scheme) if scheme in PORTS else ""
    if reason:
        yield warning(f"tracker: {without_credentials(uri)}: {reason}; {LATER}")


def _file_fault(file: Path) -> str:
    """Of a database in a file."""
    if fault := path_fault(file):
        return fault
    if not file.exists():
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        return "" if os.access(folder, os.W_OK) else f"no permission to write in {folder}"
    if not os.access(file, os.W_OK):
        return "no permission to write it"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=SECONDS)
        ) as found:
            found.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error as fault:
        return f"the database cannot be read ({fault}): move it away, and the next run makes another"
    return ""


def _server_fault(uri: str, scheme: str) -> str:
    """Of a server: whether anything accepts a connection there."""
    try:
        address = urlsplit(uri)
        host, port = address.hostname or "localhost", address.port or PORTS[scheme]
        with socket.create_connection((host, port), timeout=SECONDS):
            return ""
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except (OSError, ValueError) as fault:
        return getattr(fault, "strerror", None) or str(fault)
