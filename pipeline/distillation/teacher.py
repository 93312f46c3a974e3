"""Stage teacher: one of the models that write for a student, trained as stage train trains, with a seed of its own.

Started as stage train is. It has an MLflow run of its own, and resumes when it was interrupted.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml, validate
from charlstm.params import NOTHING, ModelParams, Params, TrainParams
from charlstm.training.progress import Observer, Plan, Progress
from pipeline import train
from pipeline.dvc.paths import MODEL, TRAINING, Paths, load_teaching_paths
from pipeline.stage import stage

log = logging.getLogger("charlstm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.distillation.teacher", description=__doc__)
    parser.add_argument("recipe", help="what stage recipe wrote")
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args(argv)

    def load() -> tuple[Params, Paths]:
        """The project's parameters and paths with those of the teacher in their place."""
        (params, paths), own = stage.load(), load_teaching_paths()
        file, folder = own.recipe(arguments.recipe), own.teacher(arguments.recipe, arguments.seed)
        document = load_yaml(file)
        if not isinstance(document, dict) or not {"model", "train"} <= document.keys():
            raise ParamsError(f"{file}: expected the sections model and train; the file is damaged: remove it")
        model = validate(ModelParams, document["model"], file)
        own_seed = {"seed": arguments.seed, "initial": NOTHING}
        training = validate(TrainParams, {**document["train"], **own_seed}, file)
        files = {"model": folder / MODEL, "train": folder / TRAINING}
        files |= {"soft_targets": Path(NOTHING), "initial": Path(NOTHING)}
        own_teachers = params.teachers.model_copy(update={"recipes": ()})
        update = {"model": model, "train": training, "teachers": own_teachers}
        return params.model_copy(update=update), paths.model_copy(update=files)

    def run() -> None:
        params, paths = load()
        wanted = stage.load()[0].teachers
        teachers = [(recipe, seed) for recipe in wanted.recipes for seed in wanted.seeds]
        announcement = _Announcement(teachers, (arguments.recipe, arguments.seed))
        train.run(params, paths, train.Job(load, observers=[announcement]))

    return stage.run_work(run)


class _Announcement(Observer):
    """Says which of the teachers is trained, since each counts its own epochs."""

    def __init__(self, teachers: Sequence[tuple[str, int]], own: tuple[str, int]) -> None:
        self._teachers, self._own = teachers, own

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Say its number."""
        if self._own in self._teachers:
            log.info("this is teacher %d of %d", self._teachers.index(self._own) + 1, len(self._teachers))


if __name__ == "__main__":
    sys.exit(main())
