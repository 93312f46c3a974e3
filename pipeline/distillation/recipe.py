"""Stage recipe: the parameters of the teachers' training, without their comments.

They are those of `params.yaml` with the teachers' recipe in it.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.params import NOTHING, Params
from pipeline.dvc.paths import load_teaching_paths
from pipeline.stage.params_file import params_with
from pipeline.stage.presets import RECIPES, load
from pipeline.stage.stage import guarded

SEED = 1  # each teacher has its own; this one only keeps the file the same for all of them


def teacher_params(name: str) -> Params:
    """The parameters of a teacher: those of `params.yaml` with the recipe `name` in it.

    Raises:
        ParamsError: there is no such recipe, or no teacher can have it.
    """
    _, params = params_with({**load(RECIPES, name).values, "train.seed": SEED})
    if params.train.initial != NOTHING:
        raise ParamsError(f"teachers.recipes: {name} begins from a model (train.initial); teachers begin from none")
    if params.train.distillation.rows:
        raise ParamsError(
            f"teachers.recipes: {name} needs teachers itself: name a recipe that learns from the text alone"
        )
    return params


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.distillation.recipe", description=__doc__)
    parser.add_argument("recipe", help="of conf/recipe")
    name = parser.parse_args(argv).recipe

    def work() -> int:
        params = teacher_params(name)
        training = params.train.model_dump(mode="json", exclude={"initial"})
        sections = {"model": params.model.model_dump(mode="json"), "train": training}
        write_text(load_teaching_paths().recipe(name), json.dumps(sections, indent=2) + "\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
