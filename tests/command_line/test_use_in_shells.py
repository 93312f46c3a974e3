"""`charlstm generate` and `score` in processes: terminals, pipes, interrupts."""

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import charlstm
from tests.support.projects import CHARLSTM, ROOT

PROMPT = "The model "
ENVIRONMENT = {
    **os.environ,
    **{"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"},
}


class Terminal:
    """A command on its own terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        self._end, other = pty.openpty()
        self.process = subprocess.Popen(
            [*CHARLSTM, *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""
        # A read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read(self, until: int = sys.maxsize, seconds: float = 60) -> str:
        """Return the output once it has `until` characters or the command has ended."""
        deadline = time.monotonic() + seconds
        while len(self.shown) < until and time.monotonic() < deadline:
            try:
                if select.select([self._end], [], [], 0.1)[0]:
                    self.shown += self._decoder.decode(os.read(self._end, 65536))
            except OSError:  # the other end is closed
                break
        return self.shown

    def end(self) -> int:
        """Return the exit code."""
        self.read()
        os.close(self._end)
        return self.process.wait(timeout=60)


def test_a_terminal_shows_the_prompt_dimmed_then_the_text_and_the_seed(learned: Path) -> None:
    terminal = Terminal("generate", PROMPT, "-n", "60", "--model", learned)
    assert terminal.end() == 0
    match = re.fullmatch(
        r"\x1b\[2m(.*)\x1b\[0m(.*)\r\nagain: --seed (\d+)\r\n", terminal.shown, re.DOTALL
    )
    assert match is not None and match[1] == PROMPT
    expected = charlstm.load(learned).generate(PROMPT, num_chars=60, seed=int(match[3]))
    assert match[2].replace("\r\n", "\n") == expected


def test_an_interrupted_stream_leaves_the_terminal_in_order(learned: Path) -> None:
    terminal = Terminal("generate", PROMPT, "-n", "100000000", "--model", learned)
    assert len(terminal.read(until=300)) >= 300, terminal.shown
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130, terminal.shown[-500:]
    shown = terminal.shown.removesuffix("\x1b[0m")  # colorama, which numba imports, writes it
    assert re.search(r"\r\nagain: --seed \d+\r\n$", shown)
    assert "Traceback" not in shown and "ERROR" not in shown
    assert shown.count("\x1b[") == 2  # dimmed, and back


def test_a_pipe_that_nobody_reads_any_more_ends_it_without_a_word(learned: Path) -> None:
    options = ["-n", "300000", "--seed", "1", "--model", str(learned)]
    command = [*CHARLSTM, "generate", PROMPT, *options]
    line = charlstm.load(learned).generate(PROMPT, num_chars=2000, seed=1).partition("\n")[0]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().decode() == f"{line}\n"
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode in (0, 1), err) == (True, b"")
