"""DVC's own commands."""

import os
import subprocess
import sys
from pathlib import Path


def run_dvc(*arguments: str) -> int:
    """Run a command of DVC's on this terminal, with the programs beside this interpreter; its exit code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with subprocess.Popen([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path}) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has reached DVC, too: its training saves what it has
            raise
