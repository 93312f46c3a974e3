"""Where teachers and what they write are: the paths of `distillation/dvc.yaml`."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml, validate

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
        """The folder of one."""
        return self.teachers / f"{recipe}-{seed}"


def load_teaching_paths() -> TeachingPaths:
    """What the file says, in the project's root.

    Raises:
        ParamsError: it is missing or has a mistake.
    """
    document: Any = load_yaml(FILE)
    variables = document.get("vars") if isinstance(document, dict) else None
    for entry in variables or []:
        if isinstance(entry, dict) and "paths" in entry:
            return validate(TeachingPaths, entry["paths"], FILE)
    raise ParamsError(f"{FILE}: expected the paths of teachers under `vars: - paths:`")
