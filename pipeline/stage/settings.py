"""What a user may set in the environment: it changes what a training learns no more than rounding does."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.files.urls import without_credentials

DEFAULT_SECONDS = {
    "CHARLSTM_CHECKPOINT_SECONDS": 30.0,  # from one checkpoint to the next
    "CHARLSTM_TIMEOUT_SECONDS": 60.0,  # a process that says nothing for so long is lost
    "CHARLSTM_TRACKING_SECONDS": 15.0,  # at the end of a stage, without any sign of MLflow
    "CHARLSTM_CHECKPOINT_MIRROR_SECONDS": 20.0,  # for an answer of the mirror at the start, and in all at the end
}
# Less is no time to work in; more is a typo, and more than the clocks of gloo and of threads can count.
MIN_SECONDS, MAX_SECONDS = 0.0001, 365 * 24 * 3600
MIRROR = "CHARLSTM_CHECKPOINT_MIRROR"  # a URL: see `pipeline.mirror`
THREADS, MAX_THREADS = "OMP_NUM_THREADS", 4096  # OpenMP's own name; it may have a list, which torch has no use for


def seconds(name: str) -> float:
    """The value of the variable `name`, or its default.

    Raises:
        ParamsError: it is no number in the range.
    """
    value = os.environ.get(name, "")
    try:
        number = float(value or DEFAULT_SECONDS[name])
        if not MIN_SECONDS <= number <= MAX_SECONDS:
            raise ValueError
    except ValueError:
        raise ParamsError(
            f"{name}: expected a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:,}, got {value[:60]!r}"
        ) from None
    return number


def rank() -> int:
    """The number of this process among those of a training, as launchers say it; 0 if they do not, or say it oddly."""
    return max(0, count(os.environ.get("RANK", "0")))


def count(value: str) -> int:
    """A number of at most nine decimal digits; -1 for anything else."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else -1


def mirror_fault(url: str) -> str:
    """Why a URL can never be that of a mirror; empty if it can, or if there is none."""
    if not url or Path(url).is_absolute():
        return ""
    from fsspec.registry import known_implementations  # which only those need who have a mirror

    protocol, separator, path = url.partition("://")
    is_relative = protocol in ("file", "local") and not path.startswith("/")
    if not separator or protocol not in known_implementations or protocol == "memory" or is_relative:
        return f"expected a URL like s3://bucket/prefix or file:///folder, got {without_credentials(url, url)[:60]!r}"
    known = known_implementations[protocol]
    is_installed = find_spec(known["class"].partition(".")[0]) is not None
    return "" if is_installed else f"{protocol}:// needs a package that is not installed: {known['err']}"


def faults() -> Iterator[ParamsError]:
    """Each variable with a value out of its range."""
    if fault := mirror_fault(os.environ.get(MIRROR, "")):
        yield ParamsError(f"{MIRROR}: {fault}")
    for name in DEFAULT_SECONDS:
        try:
            seconds(name)
        except ParamsError as fault:
            yield fault
    value = os.environ.get(THREADS, "1")
    if not 1 <= count(value) <= MAX_THREADS:
        yield ParamsError(f"{THREADS}: expected a number of threads from 1 to {MAX_THREADS}, got {value[:60]!r}")


def check_all() -> None:
    """Check all variables, as every command does before it works.

    Raises:
        ParamsError: of the first variable with a wrong value.
    """
    for fault in faults():
        raise fault
