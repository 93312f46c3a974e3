"""Stage teacher: one of the models of an ensemble, trained as stage train trains, with a seed of its own.

Started as stage train is. It has an MLflow run of its own, and resumes when it was interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.params import ModelParams, Params, TrainParams
from charlstm.storage.yaml_files import load_yaml, validate
from pipeline import train
from pipeline.common import stage
from pipeline.common.paths import NOTHING, Paths
from pipeline.distillation.params import MODEL, TRAINING, load_teaching


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.distillation.teacher", description=__doc__)
    parser.add_argument("seed", type=int)
    seed = parser.parse_args(argv).seed

    def work() -> int:
        train.run(*load(seed), lambda: load(seed))
        return 0

    return stage.guarded(work)


def load(seed: int) -> tuple[Params, Paths]:
    """The project's parameters and paths with those of a teacher in their place.

    Raises:
        ParamsError: a file is missing or has a mistake.
    """
    (params, paths), (_, own) = stage.load(), load_teaching()
    document = load_yaml(own.recipe)
    recipe = {
        "model": validate(ModelParams, document["model"], own.recipe),
        "train": validate(TrainParams, document["train"], own.recipe).model_copy(update={"seed": seed}),
    }
    folder = own.teachers / str(seed)
    return params.model_copy(update=recipe), paths.model_copy(
        update={"model": folder / MODEL, "train": folder / TRAINING, "soft_text": Path(NOTHING)}
    )


if __name__ == "__main__":
    sys.exit(main())
