"""Stage text: one part of the text that teachers write, with the distribution of each of its characters."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from charlstm.errors import ParamsError, VocabularyError
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.checksums import SUMS, write_sums
from charlstm.files.lock import exclusive
from charlstm.generation.teachers import Teachers
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.params import TeachersParams
from charlstm.sampling import Sampling
from charlstm.seeds import derive_seed, numpy_generator
from charlstm.text.encoded import load_parts
from charlstm.text.soft_targets import DISTRIBUTIONS, FILES, IDS, TEACHERS, check_prompt_chars
from charlstm.text.vocabulary import VOCAB, Ids, Vocab
from pipeline.dvc.paths import MODEL, TEACHING, TeachingPaths, load_teaching_paths
from pipeline.dvc.unfinished import CHECKOUT
from pipeline.stage import stage
from pipeline.stage.hardware import keep_freed_memory, set_num_threads
from pipeline.stage.terminal import progress

log = logging.getLogger("charlstm")

MAX_ROWS = 128  # that are written at once; what more of them need does not fit a processor's cache


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.distillation.write", description=__doc__)
    parser.add_argument("part", type=int)
    part = parser.parse_args(argv).part

    return stage.run_work(lambda: run(part))


def run(part: int) -> None:
    """Write part number `part`, which has texts of its own, whatever other parts there are.

    Raises:
        LockedError: a training is under way in this checkout, or another part is written.
        ParamsError: `params.yaml` was changed meanwhile.
    """
    with exclusive(CHECKOUT, "a training in this checkout"):  # so that no command changes params.yaml meanwhile
        _write(part)


def _write(part: int) -> None:
    set_num_threads()
    keep_freed_memory()
    (params, paths), own = stage.load(), load_teaching_paths()
    vocab, (train,) = load_parts(paths.encoded, ["train"])
    trained = _load_teachers(own, params.teachers, vocab)
    write_part(own.text / str(part), trained, train.ids, vocab, params.teachers, part)
    stage.check_unchanged(params, "text", TEACHING)


def write_part(
    path: Path,
    trained: Sequence[TrainedModel],
    train_ids: Ids,
    vocab: Vocab,
    params: TeachersParams,
    part: int,
) -> None:
    """Write part number `part` into the folder `path`, whole or not at all.

    Rows come one after the other, `row_chars` each. Many are written at once, a few characters at a time.
    """
    check_prompt_chars(params.prompt_chars, len(train_ids))
    num_chars = params.chars_of_part
    num_rows = num_chars // params.row_chars
    shape = (num_rows, params.row_chars)
    prompts = _prompts(train_ids, num_rows, params.prompt_chars, part)
    seed = derive_seed(part, "teachers' text") >> 1
    teachers = Teachers([teacher.model for teacher in trained])
    sampling = Sampling(params.row_chars, params.temperature, seed=seed)
    with atomic_folder(path) as folder, progress(f"part {part}", num_chars, " chars") as advance:
        ids = _empty_file(folder / IDS, vocab.dtype, (num_chars,))
        quantized = _empty_file(folder / DISTRIBUTIONS, np.dtype(np.uint8), (num_chars, len(vocab)))
        log.info("part %d: %s characters, by %d teacher(s)", part, f"{num_chars:,}", len(trained))
        ids_RT, quantized_RTV = ids.reshape(shape), quantized.reshape(*shape, len(vocab))
        for first in range(0, num_rows, MAX_ROWS):
            rows, end = slice(first, min(first + MAX_ROWS, num_rows)), 0
            for piece in teachers.write(prompts[rows], sampling, first):
                begin, end = end, end + piece[0].shape[1]
                ids_RT[rows, begin:end], quantized_RTV[rows, begin:end] = piece
                advance(piece[0].size)
        ids.flush()
        quantized.flush()
        write_text(folder / TEACHERS, json.dumps([teacher.sha256 for teacher in trained], indent=2) + "\n")
        vocab.save(folder / VOCAB)
        write_sums(folder / SUMS, FILES)


def _load_teachers(paths: TeachingPaths, params: TeachersParams, vocab: Vocab) -> list[TrainedModel]:
    folders = [paths.teacher(recipe, seed) for recipe in params.recipes for seed in params.seeds]
    if not folders:
        raise ParamsError("teachers.recipes: there are no teachers to write; name a recipe, as the recipe student does")
    trained = [load_model(folder / MODEL, "fused") for folder in folders]
    if any(teacher.vocab != vocab for teacher in trained):
        raise VocabularyError(f"{paths.teachers}: a teacher has another vocabulary than the text; run `dvc repro`")
    return trained


def _empty_file(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[Any]]":
    """An array on the disk, with room for all of it: a full disk would end the process as soon as it writes there."""
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _prompts(train_ids: Ids, num_rows: int, num_chars: int, part: int) -> torch.Tensor:
    """Pieces of the training part (R, T), int64, from anywhere in it."""
    starts = numpy_generator(part, "teachers' prompts").integers(len(train_ids) - num_chars, size=num_rows)
    return torch.from_numpy(np.stack([train_ids[start : start + num_chars] for start in starts]).astype(np.int64))


if __name__ == "__main__":
    sys.exit(main())
