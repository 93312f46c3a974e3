"""What exported files cost, measured on a text: loss, the distance of logits from torch's, and speed, beside torch's.

Shapes: N characters, V vocabulary.
"""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.evaluation.protocols import LanguageModel, stateful
from charlstm.export.onnx_runtime import OnnxModel, OnnxStepper
from charlstm.generation.sampler import Stepper
from charlstm.model.loss import LossSum
from charlstm.model.model_folder import TrainedModel
from charlstm.text.vocabulary import Ids

MAX_STEPS = 1_000  # characters that are read one at a time
NUM_ROUNDS = 5  # all take turns, and the fastest reading counts: what else the machine does hits all of them alike


class Cost(NamedTuple):
    """One way to run a model: the `stateful` loss, and what is read one character at a time.

    `largest_difference` is that of any logit from torch's.
    """

    name: str
    loss: LossSum
    largest_difference: float
    chars_per_second: float


def measure(trained: TrainedModel, files: Mapping[str, bytes], ids: Ids) -> Iterator[Cost]:
    """The costs of torch, on as many threads as it has, and then of each of `files`; `ids` (N) are 2 or more."""
    exported = {name: OnnxModel(file, trained.model.shape) for name, file in files.items()}
    models: dict[str, LanguageModel] = {"torch": trained.model, **exported}
    readings: dict[str, list[_Reading]] = {name: [] for name in models}
    for _ in range(NUM_ROUNDS):
        for name in models:
            stepper = OnnxStepper(exported[name]) if name in exported else Stepper(trained.model)
            readings[name].append(_read(stepper, ids[:MAX_STEPS]))
    expected_NV = readings["torch"][0].logits_NV
    for name, model in models.items():
        difference = (readings[name][0].logits_NV - expected_NV).abs().max().item()
        yield Cost(name, stateful(model, ids), difference, max(one.chars_per_second for one in readings[name]))


class _Reading(NamedTuple):
    logits_NV: Tensor
    chars_per_second: float


@torch.no_grad()
def _read(stepper: Stepper | OnnxStepper, ids: Ids) -> _Reading:
    """`ids` (N), read one after the other by a stepper that has read nothing."""
    before = time.perf_counter()
    logits = [stepper.step(index) for index in ids.tolist()]
    seconds = time.perf_counter() - before
    return _Reading(torch.stack(logits), len(ids) / seconds)
