"""What can be known of GPUs without one: a step runs on torch's *meta* device, where tensors have shapes and no values.

A tensor left on the CPU is an error there, and so is every question that a GPU could answer only after all work that
was given to it before.
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

from charlstm.params import Params
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes

META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
DROPOUT = {
    "train.dropout.embedding": 0.1,
    "train.dropout.between_layers": 0.1,
    "train.dropout.output": 0.1,
    "train.dropout.output_samples": 3,
}


class NothingWaits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """An error at copies that wait for a GPU and at operators on both sides. Meta tensors themselves tell no value."""

    num_calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
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
def on_meta(tmp_path: Path, params: Callable[[Path, Mapping[str, Any]], Params], text: str) -> Make:
    def make(override: Mapping[str, Any]) -> Learner:
        loaded, vocab = params(tmp_path, {"train.context_len": 6, **override}), Vocab.of(text)
        processes = Processes(loaded.train.precision)
        for state in (
            PartialState(),
            AcceleratorState(),
        ):  # the second copies the first whenever it is asked for
            state.device = META
        assert processes.device == META
        ids = vocab.encode(text[:3000])
        separator = vocab.encode(" ") if "split.document_separator" in override else None
        return Learner(
            EncodedText(ids, separator=separator), len(vocab), loaded.model, loaded.train, processes
        )

    return make


def take_steps(learner: Learner, num_steps: int = 2) -> None:
    with NothingWaits() as watched:  # type: ignore[no-untyped-call]
        for step in range(num_steps):
            taken = learner.take_step(step, 1, step)
            assert taken is not None and taken.nats.device == taken.gradient_norm.device == META
    assert watched.num_calls > 100 * num_steps


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize(
    "override",
    [
        {},
        {"train.optimizer": "adamw", "model.embedding_size": 0, "train.ema_decay": 0.0},
        DROPOUT
        | {
            "model.num_layers": 2,
            "train.dropout.style": "elementwise",
            "train.micro_batch_size": 3,
        },
        {"train.batching": "windows"},
        {"train.batching": "sliding_windows"},
        DROPOUT | {"split.document_separator": " ", "train.micro_batch_size": 2},
    ],
    ids=str,
)
def test_a_step_neither_waits_for_the_device_nor_leaves_it(
    on_meta: Make, override: dict[str, Any], implementation: str
) -> None:
    take_steps(on_meta({**override, "model.implementation": implementation}))


@pytest.mark.parametrize(
    "fault",
    [
        lambda meta, cpu: meta.sum().item(),
        lambda meta, cpu: meta[meta > 0],
        lambda meta, cpu: cpu.to(META),
        lambda meta, cpu: meta + cpu,
    ],
)
def test_such_faults_are_seen(fault: Callable[[Tensor, Tensor], object]) -> None:
    meta, cpu = torch.zeros((3, 3), device=META), torch.zeros((3, 3))
    with (
        pytest.raises(
            (RuntimeError, NotImplementedError, AssertionError), match="meta|nonzero|copy"
        ),
        NothingWaits(),  # type: ignore[no-untyped-call]
    ):
        fault(meta, cpu)
