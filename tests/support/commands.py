"""Runs commands of `charlstm` in this process."""

import io
import sys
from pathlib import Path

import pooch
import pytest

from pipeline import cli


class Run:
    """Runs a command in this process: exit code, standard output, standard error with what is logged."""

    def __init__(
        self,
        capture: pytest.CaptureFixture[bytes],
        log: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._capture, self._log, self._monkeypatch = capture, log, monkeypatch

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        for handler in (
            pooch.get_logger().handlers
        ):  # its stream is the one that there was when pooch was imported
            self._monkeypatch.setattr(handler, "stream", sys.stderr)
        code = cli.main([str(one) for one in arguments])
        found = self._capture.readouterr()
        logged = "".join(
            f"{record.levelname}: {record.getMessage()}\n" for record in self._log.records
        )
        self._log.clear()
        return code, found.out.decode(), found.err.decode() + logged
