"""What `dvc.yaml` declares: where the stages' files are, and what each stage depends on. Nothing else names them.

`params.yaml` names what lies elsewhere: the corpus, and the model that training begins from.
"""

import re
from collections.abc import Mapping
from functools import reduce
from operator import getitem
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
    """The paths of a `dvc.yaml` and of the `params.yaml` beside it; a ParamsError if they do not name them."""
    declared, document = declared_paths(path), load_yaml(path.with_name(PARAMS.name))
    try:
        declared["corpus"] = f"{declared.pop('corpora')}/{document['download']['name']}{EXTENSION}"
        declared["initial"] = document["train"]["initial"]
    except (KeyError, TypeError):
        raise ParamsError(f"{PARAMS}: download.name or train.initial is missing, or paths.corpora in {path}") from None
    return validate(Paths, declared, path)


def declared_paths(path: Path = PIPELINE) -> dict[str, Any]:
    """The entry `paths` of `vars` in a `dvc.yaml`; a ParamsError if it has none."""
    try:
        return dict(next(entry["paths"] for entry in load_yaml(path)["vars"] if "paths" in entry))
    except (KeyError, TypeError, ValueError, StopIteration):
        raise ParamsError(
            f"{path}: expected the stages' paths under `vars: - paths:`; run stages in the project's root"
        ) from None


def corpus_name() -> str:
    """The corpus's name by the `params.yaml` here; empty if it does not say."""
    try:
        return load_paths().corpus.name.removesuffix(EXTENSION)
    except ParamsError:
        return ""


def inputs_of(stage: str, params: Mapping[str, Any]) -> tuple[list[Path], dict[str, Any]]:
    """The files and folders that a stage depends on, and its parameters, or sections of them, with their values."""
    declared, values = load_yaml(PIPELINE)["stages"][stage], {**params, "paths": declared_paths()}

    def value(name: str) -> Any:  # noqa: ANN401  # whatever YAML has
        return reduce(getitem, name.split("."), values)

    deps = [re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), dep) for dep in declared["deps"]]
    return list(map(Path, deps)), {name: value(name) for name in declared["params"]}
