"""Memory and disk space: what a training needs at least, beside what there is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from charlstm.model.shape import ModelShape
from charlstm.params import Params
from charlstm.training.memory import MemoryNeeds, check_memory
from pipeline.common.hardware import host_memory
from pipeline.common.memory_needed import memory_needed
from pipeline.distillation.paths import FILE, load_teaching_paths
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.doctor.gpu import is_gpu_visible
from pipeline.doctor.text_there import Encoded

COPIES_OF_TEXT = 3  # the corpus, its parts, their ids
NUM_CHECKPOINTS = 3  # two are kept while a third is written
GB = 1e9


def check_host_memory(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Of a training on the processor. The memory of a GPU is the train stage's own question."""
    if not is_gpu_visible():
        shape, needs = _needs(params, encoded)
        yield from errors_of(lambda: check_memory(shape, needs, host_memory()))


def check_disk(params: Params, encoded: Encoded | None, num_bytes: int | None) -> Iterator[Finding]:
    """An error if there is too little for the files alone, a warning if DVC's cache, which copies them, is too much."""
    needs = _needs(params, encoded)[1]
    checkpoint = needs.weights + needs.optimizer + needs.averages
    text = COPIES_OF_TEXT * num_bytes if encoded is None and num_bytes is not None else 0
    taught = _teachers_bytes(params, encoded)
    without_cache = text + taught + NUM_CHECKPOINTS * checkpoint + needs.weights
    with_cache = without_cache + text + taught + needs.weights
    free = shutil.disk_usage(Path.cwd()).free
    if free < with_cache:
        finding = error if free < without_cache else warning
        written = f"{taught * 2 / GB:,.1f} for what teachers write and its cache, " if taught else ""
        yield finding(
            f"disk: about {with_cache / GB:,.1f} GB are needed ({text * 2 / GB:,.1f} for the text, its parts, its ids "
            f"and DVC's cache of them, {written}{(with_cache - 2 * (text + taught)) / GB:,.1f} for checkpoints and the "
            f"model), {free / GB:,.1f} are free in {Path.cwd()}"
        )


def _teachers_bytes(params: Params, encoded: Encoded | None) -> int:
    """Of the parts that a student's teachers have still to write: a distribution and an id for each character."""
    teachers = params.teachers
    if not teachers.recipes or not FILE.exists():
        return 0
    text = load_teaching_paths().text
    num_parts = sum(not (text / str(part)).exists() for part in teachers.parts)
    return num_parts * teachers.chars_of_part * (_vocab_size(encoded) + 1)


def _needs(params: Params, encoded: Encoded | None) -> tuple[ModelShape, MemoryNeeds]:
    """Of one process; an unknown vocabulary counts as one character, so the need is never put too high."""
    model = params.model
    sizes = (model.embedding_size, model.hidden_size, model.num_layers, model.feed_forward_size)
    shape = ModelShape(_vocab_size(encoded), *sizes)
    return shape, memory_needed(shape, params.train, params.train.batch_size)


def _vocab_size(encoded: Encoded | None) -> int:
    return len(encoded.vocab) if encoded else 1
