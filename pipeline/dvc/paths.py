"""Where the stages' files are: the `paths` and the `deps` of `dvc.yaml`, the only place that names them.

It also has the command of stage train, and so the hardware that trainings run on.

`params.yaml` names what lies elsewhere: the corpus, and the model that training begins from.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml, validate
from pipeline.stage.project import PARAMS, PIPELINE

EXTENSION = ".txt"


class Paths(BaseModel):
    """Files and folders, relative to the project's root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: Path
    split: Path
    encoded: Path
    model: Path
    train: Path
    evaluate: Path
    samples: Path
    initial: Path  # the model that training begins from

    def named_by(self, params: Mapping[str, str]) -> "Paths":
        """Those of a training with other parameters, by dotted name: some of its inputs are named by them."""
        named = {"initial": Path(params["train.initial"])} if "train.initial" in params else {}
        if corpus := params.get("download.name"):
            named["corpus"] = self.corpus.parent / f"{corpus}{EXTENSION}"  # whatever a run calls it
        return self.model_copy(update=named)


def load_paths(path: Path = PIPELINE) -> Paths:
    """The `paths` that `dvc.yaml` declares. What lies elsewhere is named by the `params.yaml` beside it.

    Raises:
        ParamsError: `path` is missing, or has no whole `vars: [{paths: ...}]`; or the parameters do not name it.
    """
    declared, params = declared_paths(path), path.with_name(PARAMS.name)
    document = load_yaml(params)
    try:
        declared["corpus"] = f"{declared.pop('corpora')}/{document['download']['name']}{EXTENSION}"
        declared["initial"] = document["train"]["initial"]
    except (KeyError, TypeError):
        raise ParamsError(f"{params}: download.name or train.initial is missing, or paths.corpora in {path}") from None
    return validate(Paths, declared, path)


def corpus_name() -> str:
    """The corpus's name by the `params.yaml` here; empty if it does not say."""
    try:
        return load_paths().corpus.name.removesuffix(EXTENSION)
    except ParamsError:
        return ""


def load_deps(paths: Paths) -> list[Path]:
    """The files and folders that `dvc.yaml` declares as the inputs of the train stage, with `${...}` filled in.

    Raises:
        ParamsError: it has no such stage with a list of `deps`.
    """
    values = {f"paths.{name}": str(value) for name, value in paths}
    values |= {"paths.corpora": str(paths.corpus.parent), "download.name": paths.corpus.name.removesuffix(EXTENSION)}
    values["train.initial"] = str(paths.initial)
    try:
        entries = load_yaml(PIPELINE)["stages"]["train"]["deps"]
        return [Path(re.sub(r"\$\{([\w.]+)\}", lambda match: values[match[1]], entry)) for entry in entries]
    except (KeyError, TypeError):
        raise ParamsError(f"{PIPELINE}: expected a list of paths under stages.train.deps") from None


def params_of(stage: str) -> list[str]:
    """The parameters, or sections of them, that `dvc.yaml` declares for a stage; none if it has no such stage."""
    try:
        return [str(name) for name in load_yaml(PIPELINE)["stages"][stage]["params"]]
    except (KeyError, TypeError):
        return []


def train_command(module: str, *arguments: str) -> list[str]:
    """The command of stage train with `module` in the place of the stage: so it runs on what that runs on.

    Raises:
        ParamsError: `dvc.yaml` has no such command.
    """
    try:
        command = load_yaml(PIPELINE)["stages"]["train"]["cmd"]
        words = [sys.executable if word == "python" else word for word in shlex.split(command) if word != "exec"]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ParamsError(f"{PIPELINE}: expected a command under stages.train.cmd") from None
    if words[-1:] != ["pipeline.train"]:
        raise ParamsError(f"{PIPELINE}: stages.train.cmd should end with -m pipeline.train, got {command}")
    return [*words[:-1], module, *arguments]


def declared_paths(path: Path = PIPELINE) -> dict[str, Any]:
    """The entry `paths` of `vars` in a `dvc.yaml`.

    Raises:
        ParamsError: it has none.
    """
    try:
        return dict(next(entry["paths"] for entry in load_yaml(path)["vars"] if "paths" in entry))
    except (KeyError, TypeError, ValueError, StopIteration):
        raise ParamsError(
            f"{path}: expected the stages' paths under `vars: - paths:`; run stages in the project's root"
        ) from None
