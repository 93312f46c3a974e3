"""Whether what a team shares can be written and read: the mirror of checkpoints, and DVC's remote.

They are tried in a process of its own (`python -m pipeline.doctor.stores`): a server that says nothing can be left.
Training waits for none of them, so nothing here is an error.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fsspec.core import url_to_fs

from pipeline.doctor.finding import Finding, warning
from pipeline.mirror import shown
from pipeline.stage.settings import MIRROR, faults, seconds

MODULE = "pipeline.doctor.stores"
MAX_SECONDS_OFF = 60.0  # between this clock and the store's; S3 refuses to talk from 15 minutes on
CONTENT = b"charlstm doctor"
UNDERSTOOD = {"url", "endpointurl", "verify", "jobs"}  # settings of a remote


class Place(NamedTuple):
    """A folder of a store, for fsspec."""

    url: str
    options: Mapping[str, str]
    advice: str = ""


def check_stores() -> Iterator[Finding]:
    """Write, read and remove a small file in each store that is set."""
    if any(faults()):  # the doctor says so
        return
    patience = seconds("CHARLSTM_CHECKPOINT_MIRROR_SECONDS")
    command = [sys.executable, "-m", MODULE]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else ""
        yield from map(warning, said.splitlines())
        yield warning(f"stores: the mirror or DVC's remote did not answer within {patience:g} s")
        return
    yield from map(warning, done.stdout.splitlines())


def main() -> int:
    """A line for each fault."""
    for name, place in (("mirror", _mirror()), ("DVC's remote", _remote())):
        if place is None:
            continue
        try:
            _try(*url_to_fs(place.url, **place.options))
            sys.stdout.write(place.advice)
        except Exception as error:  # whatever a server or a library can raise
            sys.stdout.write(f"{name}: {shown(error, place.url)}\n")
            sys.stdout.flush()
    return 0


def _mirror() -> Place | None:
    url = os.environ.get(MIRROR)
    return Place(url, {}) if url else None


def _remote() -> Place | None:
    """That to which `dvc push` pushes, unless it has settings that only DVC understands."""
    done = subprocess.run([sys.executable, "-m", "dvc", "config", "--list"], capture_output=True, text=True)
    settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    name = settings.get("core.remote")
    own = {key.removeprefix(f"remote.{name}."): value for key, value in settings.items()}
    own = {key: value for key, value in own.items() if "." not in key}
    if name is None or not own.keys() <= UNDERSTOOD:
        return None
    options = {"endpoint_url": own["endpointurl"]} if "endpointurl" in own else {}
    verify = f"`dvc remote modify {name} verify true` makes it compare their hashes"
    advice = f"DVC's remote: `dvc pull` takes damaged files as they are: {verify}\n"
    return Place(own["url"], options, "" if own.get("verify") == "true" else advice)


def _try(files: Any, root: str) -> None:  # noqa: ANN401  # of fsspec, which has no types
    path = f"{root.rstrip('/')}/charlstm-doctor-{secrets.token_hex(4)}"
    if "file" in files.protocol:  # others know no folders, or make them
        files.makedirs(root, exist_ok=True)
    files.pipe_file(path, CONTENT)
    try:
        if files.cat_file(path) != CONTENT:
            raise OSError("what was written was read back as something else")
        seconds_off = files.modified(path).timestamp() - time.time()
    finally:
        files.rm_file(path)
    if abs(seconds_off) > MAX_SECONDS_OFF:
        raise OSError(f"its clock is off by {seconds_off:.0f} s, or that of this machine")


if __name__ == "__main__":
    sys.exit(main())
