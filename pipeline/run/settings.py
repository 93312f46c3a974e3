"""Settings in environment variables. They change results by no more than rounding."""

import os
import sys

from charlstm.errors import ParamsError

DEFAULT_SECONDS = {
    # Time from one checkpoint to the next.
    "CHARLSTM_CHECKPOINT_SECONDS": 30.0,
    # Time after which a process that does not answer counts as lost.
    "CHARLSTM_TIMEOUT_SECONDS": 60.0,
    # How long a finished stage waits for an MLflow server that does not answer.
    "CHARLSTM_TRACKING_SECONDS": 14.0,
}
# Linux is tested. macOS has everything that this code needs, but is untested.
SUPPORTED = ("linux", "darwin")
# A value above MAX_SECONDS would overflow timeouts of gloo and threads, and is probably a typo.
MIN_SECONDS = 0.0001
MAX_SECONDS = 365 * 24 * 3600
# Defaults for MLflow: no telemetry, and short timeouts. The user's environment has priority.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Forbid retries by MLflow, which could create a second run. Our next call tries again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def rank() -> int:
    """Return this process's rank in a distributed training, as set by the launcher, or 0."""
    return int(os.environ.get("RANK") or 0)


def local_rank() -> int:
    """Return this process's rank among the processes of this machine, or 0."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def seconds(name: str) -> float:
    """Return the seconds that the environment variable `name` sets, or the default.

    Raises:
        ParamsError: the value is not a number in the allowed range.
    """
    value = os.environ.get(name, "")
    try:
        number = float(value or DEFAULT_SECONDS[name])
        if not MIN_SECONDS <= number <= MAX_SECONDS:
            raise ValueError
    except ValueError:
        raise ParamsError(
            f"{name}: expected a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:,}, got "
            f"{value[:60]!r}"
        ) from None
    return number


def check_settings() -> None:
    """Check the system and all settings in environment variables, before a command's work.

    Raises:
        ParamsError: the system is not supported, or a setting has an invalid value.
    """
    if sys.platform not in SUPPORTED:
        raise ParamsError(
            f"expected Linux or macOS, found {sys.platform}, which lacks the signals and the "
            "folder syncs that keep results safe: run it in the Windows Subsystem for Linux (WSL), "
            "or in a container"
        )
    for name in DEFAULT_SECONDS:
        seconds(name)
