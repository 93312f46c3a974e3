import pytest
import torch

from charlstm.dropout import DropoutMasks
from charlstm.gates import LSTMState
from charlstm.layers import FusedLayer, GatesLayer
from charlstm.model import CharLSTM, ModelShape, initial_weights

SHAPE = ModelShape(vocab_size=11, embedding_size=5, hidden_size=7, num_layers=3)
NO_MASKS = DropoutMasks(None, (None, None, None), (None, None), None)


def make(implementation: str, seed: int = 0) -> CharLSTM:
    model = CharLSTM(SHAPE, implementation).double()
    generator = torch.Generator().manual_seed(seed)
    model.load_state_dict(initial_weights(SHAPE, forget_gate_bias=1.0, generator=generator))
    return model


def ids(num_rows: int = 4, length: int = 9) -> torch.Tensor:
    return torch.randint(0, SHAPE.vocab_size, (num_rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("is_masked", [False, True])
def test_implementations_are_the_same_function_with_the_same_gradients(is_masked: bool) -> None:
    gates, fused = make("gates"), make("fused")
    mask = torch.rand(28, 7, generator=torch.Generator().manual_seed(2)).double().round() * 2
    masks = NO_MASKS._replace(recurrent_weights=(None, mask, mask.flip(0))) if is_masked else None
    assert isinstance(gates.layers[0], GatesLayer) and isinstance(fused.layers[0], FusedLayer)
    results = []
    for model in (gates, fused):
        logits_BTV, state = model(ids(), masks=masks)
        assert is_masked != torch.equal(logits_BTV, model(ids())[0])
        logits_BTV.logsumexp(-1).sum().backward()
        results.append((logits_BTV, *state))
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.grad
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    for name, gradient in gates.state_dict().items():
        torch.testing.assert_close(gradient, fused.state_dict()[name], rtol=0, atol=1e-8, msg=name)


def test_state_dict_has_one_layout_and_round_trips() -> None:
    gates, fused = make("gates", seed=1), make("fused", seed=2)
    assert gates.state_dict().keys() == fused.state_dict().keys()
    assert gates.num_parameters() == fused.num_parameters() == sum(w.numel() for w in gates.state_dict().values())
    fused.load_state_dict(gates.state_dict())
    for name, weight in fused.state_dict().items():
        assert torch.equal(weight, gates.state_dict()[name]), name


def test_loading_names_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="head.bias"):
        make("fused").load_state_dict({k: v for k, v in make("gates").state_dict().items() if k != "head.bias"})


@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_carrying_the_state_equals_reading_at_once(implementation: str) -> None:
    model = make(implementation)
    whole, last = model(ids())
    first, state = model(ids()[:, :4])
    second, state = model(ids()[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state, last)
    assert last.hidden.shape == (SHAPE.num_layers, 4, SHAPE.hidden_size)


def test_detached_state_stops_back_propagation() -> None:
    model = make("fused")
    _, state = model(ids())
    assert state.cell.requires_grad and not state.detach().cell.requires_grad
    assert isinstance(state.detach(), LSTMState)


@pytest.mark.parametrize("place", ["embedding", "between_layers", "output"])
def test_each_mask_is_applied(place: str) -> None:
    model = make("fused")
    off = torch.zeros(1, 4, SHAPE.embedding_size if place == "embedding" else SHAPE.hidden_size).double()
    masks = NO_MASKS._replace(**{place: (off, None) if place == "between_layers" else off})
    logits_BTV, _ = model(ids(), masks=masks)
    other_BTV, _ = model((ids() + 1) % SHAPE.vocab_size, masks=masks)
    torch.testing.assert_close(logits_BTV, other_BTV)  # nothing of the input passes an all-zero mask
    assert not torch.allclose(logits_BTV, model(ids())[0])


def test_initial_weights_follow_their_description() -> None:
    weights = initial_weights(SHAPE, forget_gate_bias=1.0, generator=torch.Generator().manual_seed(0))
    again = initial_weights(SHAPE, forget_gate_bias=1.0, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (weights["layers.1.cell.forget_gate.from_input.bias"] == 1).all()
    assert (weights["layers.1.cell.output_gate.from_input.bias"] == 0).all()
    recurrent = weights["layers.2.cell.candidate.from_hidden.weight"]
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(SHAPE.hidden_size), atol=1e-5, rtol=0)


def test_autocast_runs_the_fused_layer_in_the_dtype_it_names() -> None:
    layer = FusedLayer(5, 7)
    x_TBI, zeros_BH = torch.randn(6, 4, 5), torch.zeros(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        mine, last = layer(x_TBI, LSTMState(zeros_BH, zeros_BH))
        theirs, _ = layer.lstm(x_TBI)
    assert mine.dtype == last.cell.dtype == torch.bfloat16
    assert torch.equal(mine, theirs)
