import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from charlstm.errors import LockedError
from charlstm.storage.lock import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from charlstm.storage.lock import exclusive
with exclusive(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, "a training"),
        pytest.raises(LockedError, match=f"a training is under way already, in process {os.getpid()} on "),
        exclusive(tmp_path, "a training"),
    ):
        pass
    with exclusive(tmp_path, "a training"):
        pass


def test_a_dead_holder_is_no_holder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(LockedError, match=f"process {process.pid} "), exclusive(tmp_path, "work"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((tmp_path / "holder.json").read_text())["pid"] == process.pid  # it could not tidy up
    with exclusive(tmp_path, "work"):
        assert json.loads((tmp_path / "holder.json").read_text())["pid"] == os.getpid()
