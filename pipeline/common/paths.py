"""Where the stages' files are: the `paths` and the `deps` of `dvc.yaml`, the only place that names them."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from charlstm.errors import ParamsError
from charlstm.storage.yaml_files import load_yaml, validate


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


def load_paths(path: Path) -> Paths:
    """The `paths` that `dvc.yaml` declares.

    Raises:
        ParamsError: `path` is missing, or has no whole `vars: [{paths: ...}]`.
    """
    document = load_yaml(path)
    variables = document.get("vars") if isinstance(document, dict) else None
    for entry in variables or []:
        if isinstance(entry, dict) and "paths" in entry:
            return validate(Paths, entry["paths"], path)
    raise ParamsError(f"{path}: expected the stages' paths under `vars: - paths:`; run stages in the project's root")


def load_deps(path: Path, stage: str, paths: Paths) -> list[Path]:
    """The files and folders that `dvc.yaml` declares as the inputs of `stage`.

    Raises:
        ParamsError: `path` is missing, or has no such stage with a list of `deps`.
    """
    known = {name: str(value) for name, value in paths}
    try:
        entries = load_yaml(path)["stages"][stage]["deps"]
        return [Path(re.sub(r"\$\{paths\.(\w+)\}", lambda match: known[match[1]], entry)) for entry in entries]
    except (KeyError, TypeError):
        raise ParamsError(f"{path}: expected a list of paths under stages.{stage}.deps") from None
