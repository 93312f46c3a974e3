"""Models in a real MLflow store, and a client that dies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charlstm.tracking.registered_model import LoggedModel, log_model, register
from tests.support.projects import ROOT, compile_sampler

LOSSES = {"windowed_20": 3.5, "stateful": 3.6}


def new_run(client: Any, experiment_id: str) -> str:
    return str(client.create_run(experiment_id).info.run_id)


def sha256_of(folder: Path) -> str:
    """Return the SHA-256 of a model's weights."""
    return str(json.loads((folder / "config.json").read_text())["sha256"]["model.safetensors"])


def whole_chain(client: Any, run_id: str, folder: Path, sha256: str) -> None:
    """Send everything that the store keeps of a finished model."""
    model = LoggedModel(folder, sha256, LOSSES, "cd" * 32)
    register(client, run_id, log_model(client, run_id, model), "", model)


def keep_compiled(stored: Path) -> None:
    """Copy numba's compiled code to a stored model. A process that loads it need not compile."""
    compile_sampler()
    cache = "charlstm/generation/__pycache__"
    shutil.copytree(ROOT / cache, stored / "code" / cache, ignore=shutil.ignore_patterns("*.pyc*"))


class Died(Exception):
    """Error of a client of class `Dying`."""


class Dying:
    """Real client that raises after call number `last`: the store has the call, the caller not."""

    def __init__(self, client: Any, last: int) -> None:
        self._client = client
        self._left = last

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                raise Died
            self._left -= 1
            result = getattr(self._client, name)(*arguments, **named)
            if self._left == 0:
                raise Died
            return result

        return call
