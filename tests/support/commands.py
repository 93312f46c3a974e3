"""Commands of `charlstm` in the process of the test."""

import io
import sys
from pathlib import Path

import pooch
import pytest

from pipeline import cli


class Run:
    """Caller of a command. Returns its exit code, its output, and its errors with the log."""

    def __init__(
        self,
        capture: pytest.CaptureFixture[bytes],
        log: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._capture = capture
        self._log = log
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        # pooch logs to the stream that was standard error when pooch was imported.
        for handler in pooch.get_logger().handlers:
            self._monkeypatch.setattr(handler, "stream", sys.stderr)
        code = cli.main([*map(str, arguments)])
        found = self._capture.readouterr()
        logged = "".join(
            f"{record.levelname}: {record.getMessage()}\n" for record in self._log.records
        )
        self._log.clear()
        return code, found.out.decode(), found.err.decode() + logged


def only_error(log: pytest.LogCaptureFixture) -> str:
    """Return the message of the only logged error."""
    (message,) = [one.getMessage() for one in log.records if one.levelname == "ERROR"]
    return message
