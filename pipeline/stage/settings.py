"""What a user may set in the environment: it changes what a training learns no more than rounding does."""

import os
from collections.abc import Iterator
from pathlib import Path

from charlstm.errors import ParamsError

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
    """The number of this process among those of a training, as launchers say it."""
    return int(os.environ.get("RANK") or 0)


def faults() -> Iterator[ParamsError]:
    """Each variable with a value out of its range."""
    url = os.environ.get(MIRROR, "")
    if url and "://" not in url and not Path(url).is_absolute():
        yield ParamsError(f"{MIRROR}: expected a URL like s3://bucket/prefix or an absolute path, got {url[:60]!r}")
    for name in DEFAULT_SECONDS:
        try:
            seconds(name)
        except ParamsError as fault:
            yield fault
    value = os.environ.get(THREADS, "1")
    if not (value.isdecimal() and len(value) < 10 and 1 <= int(value) <= MAX_THREADS):
        yield ParamsError(f"{THREADS}: expected a number of threads from 1 to {MAX_THREADS}, got {value[:60]!r}")


def check_all() -> None:
    """Check all variables, as every command does before it works.

    Raises:
        ParamsError: of the first variable with a wrong value.
    """
    for fault in faults():
        raise fault
