"""What can be known of GPUs without one: a step runs on torch's *meta* device, where tensors have shapes and no values.

A tensor left on the CPU is an error there, and so is every question that a GPU could answer only after all work that
was given to it before.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charlstm.model import char_lstm, loss
from charlstm.params import Params
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training import learner as learner_module
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
    """An error at whatever would wait for a GPU, or compute on both sides.

    Meta tensors themselves refuse to tell a value. This adds copies from the host that wait until they have arrived,
    and operators that do not compare devices. Single numbers of the CPU travel with the call and cost nothing.
    """

    num_calls = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the operator returns
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


def watch() -> NothingWaits:
    return NothingWaits()  # type: ignore[no-untyped-call]


Make = Callable[[Mapping[str, Any]], Learner]


@pytest.fixture
def on_meta(tmp_path: Path, params: Callable[[Path, Mapping[str, Any]], Params], text: str) -> Make:
    """A learner on the meta device, made as on any other."""

    def make(override: Mapping[str, Any]) -> Learner:
        loaded, vocab = params(tmp_path, {"train.context_len": 6, **override}), Vocab.of(text)
        processes = Processes(loaded.train.precision)
        for state in (PartialState(), AcceleratorState()):  # the second copies the first whenever it is asked for
            state.device = META
        assert processes.device == META
        ids = vocab.encode(text[:3000])
        separator = vocab.encode(" ") if "split.document_separator" in override else None
        return Learner(EncodedText(ids, separator=separator), len(vocab), loaded.model, loaded.train, processes)

    return make


def take_steps(learner: Learner, num_steps: int = 2) -> None:
    with watch() as watched:
        for step in range(num_steps):
            taken = learner.take_step(step, 1, step)
            assert taken is not None and taken.nats.device == taken.gradient_norm.device == META
    assert watched.num_calls > 100 * num_steps


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize(
    "override",
    [
        {},
        {"train.ema_decay": 0.0, "train.gradient_clip_norm": None},
        {"train.optimizer": "adamw", "model.feed_forward_size": 0},
        {"train.precision": "fp64"},
        {"model.embedding_size": 0, "model.num_layers": 2, "model.initialization": "uniform"},
        DROPOUT | {"model.num_layers": 2},
        DROPOUT | {"model.num_layers": 2, "train.dropout.style": "elementwise", "train.micro_batch_size": 3},
        {"train.state_reset_probability": 0.0, "train.micro_batch_size": 1},
        {"train.batching": "windows"},
        {"train.batching": "sliding_windows"},
        {"split.document_separator": " "},
        DROPOUT | {"split.document_separator": " ", "train.micro_batch_size": 2},
    ],
    ids=str,
)
def test_a_step_neither_waits_for_the_device_nor_leaves_it(
    on_meta: Make, override: dict[str, Any], implementation: str
) -> None:
    take_steps(on_meta({**override, "model.implementation": implementation}))


@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_neither_does_one_with_a_large_alphabet(
    on_meta: Make, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits are computed in pieces, and again in the backward pass."""
    monkeypatch.setattr(learner_module, "MAX_LOGITS", 10)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 1000)
    sizes = []

    def in_pieces(head: Callable[[Tensor], Tensor], features_NH: Tensor, targets_N: Tensor, vocab_size: int) -> Tensor:
        sizes.append(len(targets_N) * vocab_size)
        return loss.summed_nats_in_pieces(head, features_NH, targets_N, vocab_size)

    monkeypatch.setattr(char_lstm, "summed_nats_in_pieces", in_pieces)
    take_steps(on_meta(DROPOUT | {"model.implementation": implementation}))
    assert len(sizes) == 2 and min(sizes) > 1000


def test_documents_begin_in_the_batches_above(on_meta: Make) -> None:
    batches = on_meta({"split.document_separator": " "}).batches
    starts = [batches.batch(1, step).starts_BT for step in range(2)]
    assert all(one is not None and one.any() for one in starts)


def test_a_step_that_may_be_skipped_waits_to_know_its_gradient(on_meta: Make) -> None:
    """`on_nonfinite: skip` is the exception: the weights must not move before the norm is known."""
    with pytest.raises(RuntimeError, match="meta"):
        take_steps(on_meta({"train.on_nonfinite": "skip"}))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda meta, cpu: meta.sum().item(), "meta tensors"),
        (lambda meta, cpu: bool(meta.any()), "meta"),
        (lambda meta, cpu: meta.cpu(), "meta tensor"),
        (lambda meta, cpu: meta.nonzero(), "nonzero"),
        (lambda meta, cpu: meta[meta > 0], "nonzero"),
        (lambda meta, cpu: cpu.to(META), "a copy to the device that waits"),
        (lambda meta, cpu: cpu.sum().to(META), "a copy to the device that waits"),
        (lambda meta, cpu: meta.copy_(cpu), "a copy to the device that waits"),
        (lambda meta, cpu: meta + cpu, "device|meta"),
        (lambda meta, cpu: meta @ cpu, "device|meta"),
        (lambda meta, cpu: torch.cat([meta, cpu]), "device|meta"),
        (lambda meta, cpu: meta[cpu.long()], "device|meta"),
    ],
)
def test_such_faults_are_seen(fault: Callable[[Tensor, Tensor], object], said: str) -> None:
    meta, cpu = torch.zeros((3, 3), device=META), torch.from_numpy(np.zeros((3, 3), np.float32))
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError), match=said), watch():
        fault(meta, cpu)


def test_what_does_not_wait_is_no_fault() -> None:
    meta, cpu = torch.zeros((3, 3), device=META), torch.ones((3, 3))
    with watch():
        meta.copy_(cpu, non_blocking=True)
        assert (cpu.to(META, non_blocking=True) * torch.tensor(2.0) + meta.sum()).device == META
