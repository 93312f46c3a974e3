"""The two implementations of the model: masks, states, initial weights, pieces of the head."""

import pytest
import torch

from charlstm.model import loss
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks
from charlstm.model.initialization import initial_weights
from charlstm.model.loss import IGNORE, SummedLoss
from charlstm.model.shape import Implementation, Initialization, ModelShape

SHAPE = ModelShape(
    vocab_size=11, embedding_size=5, hidden_size=7, num_layers=3, feed_forward_size=6
)
NO_MASKS = DropoutMasks(None, (None, None, None), None)


def initial(
    shape: ModelShape, kind: Initialization, bias: float, seed: int = 0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return initial_weights(shape, kind, forget_gate_bias=bias, generator=generator)


def make(implementation: Implementation, seed: int = 0) -> CharLSTM:
    model = CharLSTM(SHAPE, implementation).double()
    model.load_state_dict(initial(SHAPE, "orthogonal", 1.0, seed))
    return model


def with_opinions(model: CharLSTM) -> CharLSTM:
    """Set the block's second matrix, which is zero in a new model and hides the block's effect."""
    model.get_parameter("feed_forward.down.weight").data.fill_(0.1)
    return model


def ids() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, SHAPE.vocab_size, (4, 9), generator=generator)


def num_weights(model: CharLSTM) -> int:
    return sum(weight.numel() for weight in model.state_dict().values())


def test_state_dict_has_one_layout_and_round_trips() -> None:
    gates = make("gates", seed=1)
    fused = make("fused", seed=2)
    assert gates.state_dict().keys() == fused.state_dict().keys()
    assert gates.shape.num_parameters == num_weights(gates)
    fused.load_state_dict(gates.state_dict())
    for name, weight in fused.state_dict().items():
        assert torch.equal(weight, gates.state_dict()[name]), name


def test_without_an_embedding_characters_are_one_hot() -> None:
    shape = SHAPE._replace(embedding_size=0)
    model = CharLSTM(shape, "gates").double()
    model.load_state_dict(initial(shape, "uniform", 0.0))
    assert torch.equal(model.embedding(torch.arange(11)), torch.eye(11).double())
    assert not model.embedding.weight.requires_grad
    assert model.shape.num_parameters == num_weights(model) - 11 * 11


@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_carrying_the_state_equals_reading_at_once(implementation: Implementation) -> None:
    model = make(implementation)
    whole, last = model(ids())
    first, state = model(ids()[:, :4])
    second, state = model(ids()[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state, last)
    assert last.hidden.shape == (SHAPE.num_layers, 4, SHAPE.hidden_size)


def logits_of(model: CharLSTM, ids_BT: torch.Tensor, masks: DropoutMasks) -> torch.Tensor:
    return model.logits(model.features(ids_BT, masks=masks)[0])


@pytest.mark.parametrize("place", ["embedding", 0, 1, 2, "output"])
def test_each_mask_is_applied(place: str | int) -> None:
    model = with_opinions(make("fused"))
    size = SHAPE.embedding_size if place == "embedding" else SHAPE.hidden_size
    off = torch.zeros(1, 4, size).double()
    if isinstance(place, int):  # between two layers, or below the feed-forward block
        between = tuple(off if index == place else None for index in range(3))
        masks = NO_MASKS._replace(between_layers=between)
    elif place == "embedding":
        masks = NO_MASKS._replace(embedding=off)
    else:
        masks = NO_MASKS._replace(output=off)
    logits_BTV = logits_of(model, ids(), masks)
    other_BTV = logits_of(model, (ids() + 1) % SHAPE.vocab_size, masks)
    # Nothing of the input passes a mask of zeros.
    torch.testing.assert_close(logits_BTV, other_BTV)
    assert not torch.allclose(logits_BTV, model(ids())[0])


def test_a_fresh_feed_forward_block_adds_nothing_and_a_trained_one_does() -> None:
    model = make("fused")
    logits_BTV, _ = model(ids())
    without = CharLSTM(SHAPE._replace(feed_forward_size=0), "fused").double()
    weights = model.state_dict()
    kept = {name: one for name, one in weights.items() if not name.startswith("feed_forward")}
    without.load_state_dict(kept)
    num_added = model.shape.num_parameters - without.shape.num_parameters
    assert num_added == 2 * SHAPE.hidden_size * SHAPE.feed_forward_size
    torch.testing.assert_close(without(ids())[0], logits_BTV)
    assert not torch.allclose(with_opinions(model)(ids())[0], logits_BTV)


def test_initial_weights_follow_their_description() -> None:
    weights = initial(SHAPE, "orthogonal", 1.0)
    again = initial(SHAPE, "orthogonal", 1.0)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (weights["layers.1.cell.forget_gate.from_input.bias"] == 1).all()
    assert (weights["layers.1.cell.output_gate.from_input.bias"] == 0).all()
    recurrent = weights["layers.2.cell.candidate.from_hidden.weight"]
    identity = torch.eye(SHAPE.hidden_size)
    torch.testing.assert_close(recurrent @ recurrent.T, identity, atol=1e-5, rtol=0)


def test_uniform_initial_weights_are_those_of_linear_layers() -> None:
    shape = ModelShape(vocab_size=65, embedding_size=0, hidden_size=256, num_layers=2)
    weights = initial(shape, "uniform", 3.0)
    assert torch.equal(weights["embedding.weight"], torch.eye(65))
    for name, num_read, middle in (
        ("layers.0.cell.output_gate.from_input.weight", 65, 0.0),
        ("layers.0.cell.forget_gate.from_input.bias", 65, 3.0),
        ("layers.0.cell.candidate.from_hidden.weight", 256, 0.0),
        ("head.bias", 256, 0.0),
    ):
        bound = num_read**-0.5
        off = (weights[name] - middle).abs()
        assert 0.9 * bound < off.max() <= bound * 1.00001, name
        # The mean of a uniform distribution.
        assert abs(off.mean() / bound - 0.5) < 0.1, name


def loss_and_gradients(
    model: CharLSTM, targets_BT: torch.Tensor, masks: DropoutMasks | None
) -> list[torch.Tensor]:
    model.zero_grad()
    nats, end = SummedLoss(model)(ids(), model.zero_state(4), masks, targets_BT)
    torch.autograd.backward(nats * 0.1 + end.cell.sum())
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [nats.detach(), *(part.detach() for part in end), *gradients]


@pytest.mark.parametrize("num_copies", [None, 3])
@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize("at_once", [11, 50])  # the logits of one character, and of four
def test_a_head_in_pieces_has_the_same_loss_and_gradients(
    implementation: Implementation,
    num_copies: int | None,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = with_opinions(make(implementation))
    targets_BT = ids().roll(1, 1)
    targets_BT[1, 3:] = IGNORE
    masks = None
    if num_copies:
        generator = torch.Generator().manual_seed(3)
        kept = torch.rand((num_copies, 1, 4, 7), generator=generator).double().round()
        masks = NO_MASKS._replace(output=kept * 2)
    plain = loss_and_gradients(model, targets_BT, masks)
    monkeypatch.setattr(loss, "MAX_LOGITS", 0)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    pieces = loss_and_gradients(model, targets_BT, masks)
    assert len(plain) == len(pieces) > 10
    torch.testing.assert_close(pieces, plain, rtol=1e-12, atol=1e-12)
