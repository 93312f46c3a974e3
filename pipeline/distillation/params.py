"""`distillation/params.yaml` and the paths of `distillation/dvc.yaml`, validated."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from charlstm.errors import ParamsError
from charlstm.params import Length, NonNegativeInt, PositiveInt, Seed, Temperature
from charlstm.sections import Section
from charlstm.storage.yaml_files import load_yaml, validate

FOLDER = Path("distillation")
MODEL, TRAINING = "model", "training"  # folders of a teacher


class TeachersParams(Section):
    """Which models teach."""

    recipe: Annotated[str, Field(pattern=r"^\w[\w-]*$")]
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=1_000)]


class WritingParams(Section):
    """How much the teachers write, and how."""

    parts: Annotated[tuple[NonNegativeInt, ...], Field(strict=False, min_length=1, max_length=10_000)]
    num_chars: PositiveInt
    row_chars: Length
    prompt_chars: Length
    temperature: Temperature


class TeachingParams(Section):
    """The whole file."""

    teachers: TeachersParams
    writing: WritingParams


class TeachingPaths(Section):
    """Where teachers and their text are, relative to the project's root."""

    recipe: Annotated[Path, Field(strict=False)]
    teachers: Annotated[Path, Field(strict=False)]
    text: Annotated[Path, Field(strict=False)]


def load_teaching() -> tuple[TeachingParams, TeachingPaths]:
    """What the two files say; in the project's root.

    Raises:
        ParamsError: one is missing or has a mistake.
    """
    params = validate(TeachingParams, load_yaml(FOLDER / "params.yaml"), FOLDER / "params.yaml")
    file = FOLDER / "dvc.yaml"
    try:
        declared = load_yaml(file)["vars"][0]["paths"]
    except (KeyError, IndexError, TypeError):
        raise ParamsError(f"{file}: expected the paths of teachers and their text under `vars: - paths:`") from None
    return params, validate(TeachingPaths, declared, file)
