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
from pipeline.stage.settings import MIRROR, faults, seconds
from pipeline.stage.terminal import reason_of, shown_error

MODULE = "pipeline.doctor.stores"
MAX_SECONDS_OFF = 60.0  # between this clock and the store's; S3 refuses to talk from 15 minutes on
CONTENT = b"charlstm doctor"
DVC_CONFIG = [sys.executable, "-m", "dvc", "config", "--list"]
UNDERSTOOD = {"url", "endpointurl", "profile", "verify", "jobs"}  # settings of a remote


class Place(NamedTuple):
    """A folder of a store, for fsspec; without a URL, `advice` says why it is not tried."""

    name: str
    url: str
    options: Mapping[str, str]
    advice: str = ""


def check_stores() -> Iterator[Finding]:
    """Write, read and remove a small file in each store that is set."""
    if any(faults()):  # the doctor says so
        return
    patience = seconds("CHARLSTM_CHECKPOINT_MIRROR_SECONDS")
    command = [sys.executable, "-B", "-m", MODULE]  # it writes no bytecode into the project either
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else ""
        yield from map(warning, said.splitlines())
        yield warning(f"stores: the mirror or DVC's remote did not answer within {patience:g} s")
        return
    yield from map(warning, done.stdout.splitlines())
    if done.returncode:
        yield warning(f"stores: they could not be tried: {reason_of(done)}")


def main() -> int:
    """A line for each fault."""
    for place in (*_mirror(), *_remote()):
        try:
            if place.url:
                _try(*url_to_fs(place.url, **place.options))
            sys.stdout.write(place.advice)
        except Exception as error:  # whatever a server or a library can raise
            sys.stdout.write(f"{place.name}: {shown_error(error, place.url)}\n")
            sys.stdout.flush()
    return 0


def _mirror() -> Iterator[Place]:
    if url := os.environ.get(MIRROR):
        yield Place("mirror", url, {})


def _remote() -> Iterator[Place]:
    """That to which `dvc push` pushes."""
    name, done = "DVC's remote", subprocess.run(DVC_CONFIG, capture_output=True, text=True)
    settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if (remote := settings.get("core.remote")) is None:
        return
    own = {key.removeprefix(f"remote.{remote}."): value for key, value in settings.items()}
    own = {key: value for key, value in own.items() if "." not in key}
    if "url" not in own:
        yield Place(name, "", {}, f"{name}: there is no {remote}, which core.remote names; see `dvc remote list`\n")
    elif other := own.keys() - UNDERSTOOD:
        yield Place(name, "", {}, f"{name}: it is not tried, for only DVC understands its {', '.join(sorted(other))}\n")
    else:
        options = {"endpoint_url": own.get("endpointurl"), "profile": own.get("profile")}
        verify = f"`dvc remote modify {remote} verify true` makes it compare their hashes"
        advice = f"{name}: `dvc pull` takes damaged files as they are: {verify}\n"
        given = {option: value for option, value in options.items() if value}
        yield Place(name, own["url"], given, "" if own.get("verify") == "true" else advice)


def _try(files: Any, root: str) -> None:  # noqa: ANN401  # of fsspec, which has no types
    if root.startswith("/") and not files.exists(root):  # of a disk that is not mounted, say
        raise FileNotFoundError("there is no such folder yet: make it, or mount its disk")
    path = f"{root.rstrip('/')}/charlstm-doctor-{secrets.token_hex(4)}"
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
