"""Every trained weight has exactly one optimizer, and the right one."""

import pytest
import torch

from charlstm.model.char_lstm import CharLSTM, Implementation
from charlstm.model.shape import ModelShape
from charlstm.optimization.muon import Muon
from charlstm.optimization.optimizers import make_optimizers
from charlstm.training.processes import Processes

SHAPE = ModelShape(vocab_size=9, embedding_size=4, hidden_size=6, num_layers=2, feed_forward_size=10)


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize("has_muon", [False, True])
def test_each_weight_is_moved_once(implementation: Implementation, has_muon: bool) -> None:
    model = CharLSTM(SHAPE, implementation)
    optimizers = make_optimizers(
        model, has_muon=has_muon, learning_rate=0.01, betas=(0.9, 0.99), weight_decay=0.1, muon_learning_rate=0.02,
        muon_momentum=0.9, muon_dtype=torch.float32, peers=Processes("fp32"),
    )  # fmt: skip
    names = {id(weight): name for name, weight in model.named_parameters() if weight.requires_grad}
    groups = [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]
    moved = [names[id(weight)] for _, group in groups for weight in group["params"]]
    assert sorted(moved) == sorted(names.values())
    matrices_of_muon = {
        names[id(weight)]: group["num_rows"]
        for optimizer, group in groups
        if isinstance(optimizer, Muon)
        for weight in group["params"]
    }
    assert bool(matrices_of_muon) == has_muon
    for name, num_rows in matrices_of_muon.items():
        assert model.get_parameter(name).dim() == 2
        assert num_rows == (10 if name == "feed_forward.up.weight" else 6), name
    if has_muon:
        between_features = {name for name in names.values() if name.startswith(("layers.", "feed_forward."))}
        assert matrices_of_muon.keys() == {name for name in between_features if "bias" not in name}
    assert {group["peak"] for _, group in groups} == ({0.01, 0.02} if has_muon else {0.01})
