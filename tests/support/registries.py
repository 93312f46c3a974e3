"""Models in a real MLflow store, and a client that dies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charlstm.tracking.registered_model import LoggedModel, log_model, register
from tests.support.projects import ROOT, compile_sampler

LOSSES = {"windowed_20": 3.5, "stateful": 3.6}


def new_run(client: Any, experiment_id: str) -> str:  # noqa: ANN401  # MLflow's client has no annotations
    return str(client.create_run(experiment_id).info.run_id)


def sha256_of(folder: Path) -> str:
    """The model's name."""
    return str(json.loads((folder / "config.json").read_text())["sha256"]["model.safetensors"])


def whole_chain(client: Any, run_id: str, folder: Path, sha256: str) -> None:  # noqa: ANN401
    """All that is sent of a finished model."""
    model = LoggedModel(folder, sha256, LOSSES, "cd" * 32)
    register(client, run_id, log_model(client, run_id, model), "", model)


def keep_compiled(stored: Path) -> None:
    """Copy numba's compiled code to that of a stored model: else a process that loads it compiles for ten seconds."""
    compile_sampler()
    cache = "charlstm/generation/__pycache__"
    shutil.copytree(ROOT / cache, stored / "code" / cache, ignore=shutil.ignore_patterns("*.pyc*"))


class Died(Exception):
    """What a client of `Dying` raises."""


class Dying:
    """A real client that raises after its call number `last`: done in the store, and the process never knew."""

    def __init__(self, client: Any, last: int) -> None:  # noqa: ANN401
        self._client, self._left = client, last

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            if self._left == 0:
                raise Died
            self._left -= 1
            result = getattr(self._client, name)(*arguments, **named)
            if self._left == 0:
                raise Died
            return result

        return call
