"""What exported files cost, measured on a text: loss, the distance of logits from torch's, and speed, beside torch's.

Shapes: N characters, V vocabulary.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.evaluation.protocols import stateful
from charlstm.export.onnx_runtime import OnnxModel, OnnxStepper
from charlstm.generation.sampler import Stepper
from charlstm.model.loss import LossSum
from charlstm.model.model_folder import TrainedModel
from charlstm.text.vocabulary import Ids

MAX_STEPS = 1_000  # characters that are read one at a time
NUM_READINGS = 2  # the faster one counts: the first one also warms up


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
    stepwise_ids = [int(index) for index in ids[:MAX_STEPS]]
    expected_NV, speed = _read([Stepper(trained.model) for _ in range(NUM_READINGS)], stepwise_ids)
    yield Cost("torch", stateful(trained.model, ids), 0.0, speed)
    for name, file in files.items():
        model = OnnxModel(file, trained.model.shape)
        logits_NV, speed = _read([OnnxStepper(model) for _ in range(NUM_READINGS)], stepwise_ids)
        difference = (logits_NV - expected_NV).abs().max().item()
        yield Cost(name, stateful(model, ids), difference, speed)


@torch.no_grad()
def _read(steppers: Sequence[Stepper] | Sequence[OnnxStepper], ids: list[int]) -> tuple[Tensor, float]:
    """Logits (N, V), and characters a second; each of `steppers` has read nothing."""
    seconds = []
    for stepper in steppers:
        before = time.perf_counter()
        logits = [stepper.step(index) for index in ids]
        seconds.append(time.perf_counter() - before)
    return torch.stack(logits), len(ids) / min(seconds)
