"""Mistakes with teachers and students, each with the line that says so. Each is planted alone."""

import shutil
from pathlib import Path

from planted_faults import DISK, Fault

from benchmarks.projects import ROOT

STUDENT = {"train.distillation.rows": 3, "train.distillation.text": "soft", "teachers.recipes": ["quick"]}


def can_have_teachers() -> None:
    for folder in ("distillation", "conf/recipe"):
        shutil.copytree(ROOT / folder, folder, dirs_exist_ok=True)


def have_written() -> None:
    can_have_teachers()
    Path("soft").mkdir()


OF_TEACHERS = {
    "rows of no text": Fault(
        "ERROR: params.yaml: train.distillation.rows is 2, but there is no text for them: set train.distillation.text "
        "and teachers, as the recipe student does",
        {"train.distillation.rows": 2},
    ),
    "text of nobody": Fault(
        "ERROR: params.yaml: train.distillation.text: there is no soft, and no teachers write it: set teachers, as the "
        "recipe student does",
        STUDENT | {"teachers.recipes": [], "teachers.parts": [1]},
    ),
    "teachers of no recipe": Fault(
        "ERROR: there is no recipe 'bset', did you mean best?; there are best, …",
        STUDENT | {"teachers.recipes": ["bset"], "teachers.parts": [1]},
        plant=can_have_teachers,
    ),
    "teachers who need teachers": Fault(
        "ERROR: teachers.recipes: student needs teachers itself: name a recipe that learns from the text alone",
        STUDENT | {"teachers.recipes": ["student"], "teachers.parts": [1]},
        plant=can_have_teachers,
    ),
    "text of no rows": Fault(
        "WARNING: params.yaml: train.distillation.rows is 0, so nothing learns from teachers: set "
        "train.distillation.text to conf/corpus/nothing and teachers.recipes to []",
        {"train.distillation.text": "soft"},
    ),
    "teachers write little": Fault(
        "ERROR: the teachers' text has 10 characters, too few for one step of train.distillation.rows 3 x "
        "train.context_len … = …: raise teachers.part_chars",
        STUDENT | {"teachers.parts": [1], "teachers.part_chars": 5, "teachers.row_chars": 10},
        plant=can_have_teachers,
    ),
    "teachers read much": Fault(
        "ERROR: teachers.prompt_chars: expected less than the 5400 characters of the training part, got 5400",
        STUDENT | {"teachers.parts": [], "teachers.prompt_chars": 5400},
        plant=have_written,
    ),
    "too short for a student": Fault(
        "ERROR: the training part has 5400 characters, too few for one step of train.batch_size 1 x train.context_len "
        "10000 = 10000; a context_len of 5399 would fit (not counting the 3 of train.distillation.rows)",
        STUDENT | {"train.context_len": 10_000},
        plant=have_written,
    ),
    "teachers' text": Fault(
        DISK,
        STUDENT | {"teachers.parts": list(range(10_000)), "teachers.part_chars": 10**9},
        plant=can_have_teachers,
    ),
}
