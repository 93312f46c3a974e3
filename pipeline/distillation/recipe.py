"""Stage recipe: the parameters of the teachers' training, composed from `conf/` and without its comments.

Its prompts are for the corpus of `conf/`, and the project may have another: teachers take beginnings of lines.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.sections import AUTO
from charlstm.storage.files import write_text
from pipeline.common.composing import compose_params
from pipeline.common.stage import guarded
from pipeline.distillation.paths import load_teaching_paths


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.distillation.recipe", description=__doc__)
    parser.add_argument("recipe", help="of conf/recipe")
    name = parser.parse_args(argv).recipe

    def work() -> int:
        overrides = [f"recipe={name}", f"train.text_prompts={AUTO}"]
        composed, paths = compose_params(Path("conf"), overrides), load_teaching_paths()
        sections = {"model": composed.model.model_dump(mode="json"), "train": composed.train.model_dump(mode="json")}
        write_text(paths.recipe(name), json.dumps(sections, indent=2) + "\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
