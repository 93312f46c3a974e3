"""Which engine writes: torch, or machine code, where it is there or worth compiling. Texts are equal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from charlstm.generation.drawing import Rules
from charlstm.generation.quantized import QuantizedModel
from charlstm.generation.rule import SamplingRule
from charlstm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlstm.generation.compiled.stepper import CompiledStepper

# Measured with the default model on 2 cores: `python -m benchmarks.generation`.
SECONDS_SAVED_PER_STEP: Final = 90e-6  # a character in each row: what torch needs to call its functions
SECONDS_SAVED_PER_CHAR: Final = 2e-6
# Compiling takes three or more. But it is done once for a machine, and later processes save, too.
SECONDS_WORTH_COMPILING: Final = 1.0

log = logging.getLogger(__name__)


class Engines:
    """Those for one model."""

    def __init__(self, model: QuantizedModel) -> None:
        self._model, self._stepper = model, Stepper(model)
        self._compiled: CompiledStepper | None = None
        self._has_tried = False

    def best(self, num_rows: int, num_chars: int) -> Stepper:
        """To read and write `num_chars` characters in all, `num_rows` texts at once."""
        saved = num_chars * (SECONDS_SAVED_PER_STEP / max(num_rows, 1) + SECONDS_SAVED_PER_CHAR)
        if not self._has_tried and (saved > SECONDS_WORTH_COMPILING or is_compiled()):
            self._has_tried, self._compiled = True, compiled_stepper(self._model)
        return self._compiled if self._compiled and num_rows <= self._compiled.most_rows else self._stepper


def is_compiled() -> bool:
    """Whether the engine in machine code is there, so that using it takes no more than a moment."""
    with _without_it():
        from charlstm.generation.compiled.object_code import kept

        return kept() is not None
    return False


def compiled_stepper(model: QuantizedModel) -> "CompiledStepper | None":
    """The engine in machine code, compiled if need be; None where numba is missing or does not work as it should."""
    with _without_it():
        from charlstm.generation.compiled.object_code import Function, keep, kept
        from charlstm.generation.compiled.stepper import CompiledStepper, compile_for

        if function := kept():
            return CompiledStepper(model, torch.get_num_threads(), function)
        stepper = CompiledStepper(model, torch.get_num_threads(), function := Function(code := compile_for(model)))
        if _first_ids(stepper, model) == _first_ids(Stepper(model), model):
            keep(code, function)
            return stepper
        log.debug("torch writes: what numba compiled gives other texts")
    return None


@contextmanager
def _without_it() -> Iterator[None]:
    """Whatever is wrong with an optional package, torch does without it."""
    try:
        yield
    except Exception as error:
        log.debug("torch writes: %s: %s", type(error).__name__, error)


def _first_ids(stepper: Stepper, model: QuantizedModel) -> list[list[int]]:
    """Of two texts."""
    rules = [SamplingRule(1.0), SamplingRule(1.0, top_k=9, top_p=0.9)]
    keys_R = np.arange(len(rules), dtype=np.uint64)
    ids_RT, _ = stepper.write(stepper.zero_state(len(rules)), Rules.of(rules, len(model.bias_V)), keys_R, 0, 16)
    ids: list[list[int]] = ids_RT.tolist()
    return ids
