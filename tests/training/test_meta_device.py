"""Facts about GPUs without a GPU: a step on torch's *meta* device, whose tensors have no values.

On that device, a tensor left on the CPU is an error. So is each value that a GPU could give only
after all its work.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from tests.support.projects import tiny_params

META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
DROPOUT = {
    "train.dropout.embedding": 0.1,
    "train.dropout.between_layers": 0.1,
    "train.dropout.output": 0.1,
    "train.dropout.output_samples": 3,
}


class NothingWaits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Guard against copies that wait for a GPU, and operators with tensors on both devices."""

    num_calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sides = {one.device.type for one in tensors if one.dim() > 0}
        if func in COPIES:
            is_async = (kwargs or {}).get("non_blocking") or (len(args) > 2 and args[2])
            is_sent = any(one.device.type == "cpu" for one in tensors) and result.device == META
            assert is_async or not is_sent, f"{func}: a copy to the device that waits for it"
        else:
            assert len(sides) < 2, f"{func}: tensors on {' and '.join(sorted(sides))}"
        self.num_calls += "meta" in sides
        return result


Make = Callable[[Mapping[str, Any]], Learner]


@pytest.fixture
def on_meta(tmp_path: Path, text: str) -> Make:
    def make(override: Mapping[str, Any]) -> Learner:
        loaded = tiny_params(tmp_path, {"train.context_len": 6, **override})
        vocab = Vocab.of(text)
        processes = Processes(loaded.train.precision)
        # The second state copies the first whenever it is created.
        for state in (PartialState(), AcceleratorState()):
            state.device = META
        assert processes.device == META
        train = EncodedText(vocab.encode(text[:3000]))
        return Learner(train, len(vocab), loaded.model, loaded.train, processes)

    return make


LAYERS = {"model.num_layers": 2, "train.dropout.style": "elementwise"}


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize(
    "override",
    [
        {},
        {"train.optimizer": "adamw", "model.embedding_size": 0, "train.ema_decay": 0.0},
        {"train.batching": "windows"},
        {"train.batching": "sliding_windows"},
        DROPOUT | LAYERS | {"train.micro_batch_size": 3},
    ],
    ids=str,
)
def test_a_step_neither_waits_for_the_device_nor_leaves_it(
    on_meta: Make, override: dict[str, Any], implementation: str
) -> None:
    learner = on_meta({**override, "model.implementation": implementation})
    with NothingWaits() as watched:  # type: ignore[no-untyped-call]
        for step in range(2):
            taken = learner.take_step(step, 1, step)
            assert taken is not None and taken.nats.device == taken.gradient_norm.device == META
    assert watched.num_calls > 200
