"""Stage recipe: the parameters of the teachers' training, composed from `conf/` and without its comments."""

import json
import sys
from pathlib import Path

from charlstm.storage.files import write_text
from pipeline.common.composing import compose_params
from pipeline.common.stage import guarded
from pipeline.distillation.params import load_teaching


def main() -> int:
    """Run the stage; its exit code."""
    return guarded(_run)


def _run() -> int:
    params, paths = load_teaching()
    composed = compose_params(Path("conf"), [f"recipe={params.teachers.recipe}"])
    sections = {"model": composed.model.model_dump(mode="json"), "train": composed.train.model_dump(mode="json")}
    write_text(paths.recipe, json.dumps(sections, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
