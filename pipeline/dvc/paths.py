"""Where the stages' files are: the `paths` and the `deps` of `dvc.yaml`, the only place that names them.

Two texts are named by `params.yaml`: the corpus, and what teachers wrote.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml, validate

EXTENSION = ".txt"
NOTHING = "conf/corpus/nothing"  # what a URL watches, and what a model without teachers learns from


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
    soft_text: Path = Path(NOTHING)  # what teachers wrote


def load_paths(path: Path) -> Paths:
    """The `paths` that `dvc.yaml` declares. The corpus is named by the `params.yaml` beside it.

    Raises:
        ParamsError: `path` is missing, or has no whole `vars: [{paths: ...}]`; or there is no `download.name`.
    """
    return validate(Paths, _with_texts(_declared(path), path.with_name("params.yaml")), path)


def corpus_name() -> str:
    """What `params.yaml` here calls the corpus; empty if it does not say."""
    try:
        return load_paths(Path("dvc.yaml")).corpus.name.removesuffix(EXTENSION)
    except ParamsError:
        return ""


def load_deps(path: Path, stage: str, paths: Paths) -> list[Path]:
    """The files and folders that `dvc.yaml` declares as the inputs of `stage`.

    Raises:
        ParamsError: `path` is missing, or has no such stage with a list of `deps`.
    """
    try:
        return _resolved(load_yaml(path)["stages"][stage]["deps"], paths)
    except (KeyError, TypeError):
        raise ParamsError(f"{path}: expected a list of paths under stages.{stage}.deps") from None


def load_outs(path: Path, stage: str, paths: Paths) -> list[Path]:
    """The outputs of `stage` that `dvc.yaml` declares, metrics and plots among them.

    Raises:
        ParamsError: `path` is missing, or its outputs are no lists of paths.
    """
    try:
        declared = load_yaml(path)["stages"][stage]
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in declared.get(kind, [])]
        return _resolved([entry if isinstance(entry, str) else next(iter(entry)) for entry in entries], paths)
    except (AttributeError, KeyError, TypeError, StopIteration):
        raise ParamsError(f"{path}: expected lists of paths as the outputs of stages.{stage}") from None


def _resolved(entries: Iterable[str], paths: Paths) -> list[Path]:
    """With `${...}` filled in; KeyError for an unknown one."""
    known = {f"paths.{name}": str(value) for name, value in paths}
    known |= {"paths.corpora": str(paths.corpus.parent), "download.name": paths.corpus.name.removesuffix(EXTENSION)}
    known |= {"train.distillation.text": str(paths.soft_text)}
    return [Path(re.sub(r"\$\{([\w.]+)\}", lambda match: known[match[1]], entry)) for entry in entries]


def _declared(path: Path) -> dict[str, Any]:
    """The entry `paths` of `vars` in a `dvc.yaml`."""
    document = load_yaml(path)
    variables = document.get("vars") if isinstance(document, dict) else None
    for entry in variables or []:
        if isinstance(entry, dict) and isinstance(entry.get("paths"), dict):
            return dict(entry["paths"])
    raise ParamsError(f"{path}: expected the stages' paths under `vars: - paths:`; run stages in the project's root")


def _with_texts(declared: dict[str, Any], params: Path) -> dict[str, Any]:
    """`corpora` is the folder of the corpora. Commits of old have the path of the only one, as `corpus`."""
    if "corpora" not in declared:
        return declared
    document, others = load_yaml(params), {name: value for name, value in declared.items() if name != "corpora"}
    try:
        found = {**others, "corpus": f"{declared['corpora']}/{document['download']['name']}{EXTENSION}"}
    except (KeyError, TypeError):
        raise ParamsError(f"{params}: download.name is missing") from None
    with contextlib.suppress(KeyError, TypeError):  # commits of old have no teachers
        found["soft_text"] = document["train"]["distillation"]["text"]
    return found


# Where teachers and what they write are: the paths of `distillation/dvc.yaml`.
FILE = Path("distillation/dvc.yaml")
MODEL, TRAINING = "model", "training"  # folders of a teacher


class TeachingPaths(BaseModel):
    """Folders, relative to the project's root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: Path
    teachers: Path
    text: Path

    def recipe(self, name: str) -> Path:
        """The parameters of a recipe."""
        return self.recipes / f"{name}.json"

    def teacher(self, recipe: str, seed: int) -> Path:
        """The folder of a teacher."""
        return self.teachers / f"{recipe}-{seed}"


def load_teaching_paths() -> TeachingPaths:
    """What the file says, in the project's root.

    Raises:
        ParamsError: it is missing or has a mistake.
    """
    return validate(TeachingPaths, _declared(FILE), FILE)
