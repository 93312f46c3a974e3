"""Locks: one holder at a time, a dead holder, waiting, and a full disk."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from charlstm.errors import LockedError
from charlstm.files.lock import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from charlstm.files.lock import exclusive
with exclusive(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock. Return the process once it does."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    message = f"a training is already running in process {os.getpid()} on "
    for _ in range(2):
        with exclusive(folder, "a training"):
            # A holder may remove the folder.
            folder.mkdir()
            folder.rmdir()
            with pytest.raises(LockedError, match=message), exclusive(folder, "a training"):
                pass


def test_a_dead_holder_is_no_holder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    holder = tmp_path / "folder.holder"
    process = hold(folder)
    with pytest.raises(LockedError, match=f"process {process.pid} "), exclusive(folder, "work"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The killed holder could not remove its file.
    assert holder.read_text().startswith(f"in process {process.pid} on ")
    with exclusive(folder, "work"):
        assert holder.read_text().startswith(f"in process {os.getpid()} on ")


def test_who_waits_has_it_when_the_other_one_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with hold(folder) as process:
        threading.Timer(0.5, process.kill).start()
        with exclusive(folder, "work", waits=True):
            assert process.wait() == -signal.SIGKILL
