import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from charlstm.errors import LockedError
from charlstm.lock import hold

HOLDER = """
import sys, time
from pathlib import Path
from charlstm.lock import hold
with hold(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with (
        hold(tmp_path, "a training"),
        pytest.raises(LockedError, match=f"a training is under way already, in process {os.getpid()} on "),
        hold(tmp_path, "a training"),
    ):
        pass
    with hold(tmp_path, "a training"):
        pass


def test_a_dead_holder_is_no_holder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(LockedError, match=f"process {process.pid} "), hold(tmp_path, "work"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((tmp_path / "holder.json").read_text())["pid"] == process.pid  # it could not tidy up
    with hold(tmp_path, "work"):
        assert json.loads((tmp_path / "holder.json").read_text())["pid"] == os.getpid()
