import pytest
import torch

from charlstm.model import loss
from charlstm.model.char_lstm import CharLSTM, Implementation
from charlstm.model.dropout import DropoutMasks
from charlstm.model.gates import LSTMState
from charlstm.model.initialization import initial_weights
from charlstm.model.layers import FusedLayer
from charlstm.model.loss import IGNORE, SummedLoss
from charlstm.model.shape import ModelShape
from tests.support.learning import needs_bf16

SHAPE = ModelShape(
    vocab_size=11, embedding_size=5, hidden_size=7, num_layers=3, feed_forward_size=6
)
NO_MASKS = DropoutMasks(None, (None, None, None), None)


def make(implementation: Implementation, seed: int = 0) -> CharLSTM:
    model = CharLSTM(SHAPE, implementation).double()
    generator = torch.Generator().manual_seed(seed)
    model.load_state_dict(
        initial_weights(SHAPE, "orthogonal", forget_gate_bias=1.0, generator=generator)
    )
    return model


def with_opinions(model: CharLSTM) -> CharLSTM:
    """The block's second matrix is zero in a fresh model, and would hide what the block does."""
    model.get_parameter("feed_forward.down.weight").data.fill_(0.1)
    return model


def ids(num_rows: int = 4, length: int = 9) -> torch.Tensor:
    return torch.randint(
        0, SHAPE.vocab_size, (num_rows, length), generator=torch.Generator().manual_seed(1)
    )


def test_state_dict_has_one_layout_and_round_trips() -> None:
    gates, fused = make("gates", seed=1), make("fused", seed=2)
    assert gates.state_dict().keys() == fused.state_dict().keys()
    assert gates.shape.num_parameters == sum(
        weight.numel() for weight in gates.state_dict().values()
    )
    fused.load_state_dict(gates.state_dict())
    for name, weight in fused.state_dict().items():
        assert torch.equal(weight, gates.state_dict()[name]), name


def test_without_an_embedding_characters_are_one_hot() -> None:
    shape = SHAPE._replace(embedding_size=0)
    model = CharLSTM(shape, "gates").double()
    generator = torch.Generator().manual_seed(0)
    model.load_state_dict(
        initial_weights(shape, "uniform", forget_gate_bias=0.0, generator=generator)
    )
    assert torch.equal(model.embedding(torch.arange(11)), torch.eye(11).double())
    assert not model.embedding.weight.requires_grad
    assert (
        model.shape.num_parameters
        == sum(weight.numel() for weight in model.state_dict().values()) - 11 * 11
    )


@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_carrying_the_state_equals_reading_at_once(implementation: Implementation) -> None:
    model = make(implementation)
    whole, last = model(ids())
    first, state = model(ids()[:, :4])
    second, state = model(ids()[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state, last)
    assert last.hidden.shape == (SHAPE.num_layers, 4, SHAPE.hidden_size)


@pytest.mark.parametrize("place", ["embedding", 0, 1, 2, "output"])
def test_each_mask_is_applied(place: str | int) -> None:
    model = with_opinions(make("fused"))
    off = torch.zeros(
        1, 4, SHAPE.embedding_size if place == "embedding" else SHAPE.hidden_size
    ).double()
    if isinstance(
        place, int
    ):  # of the boundaries between the layers; the last one is below the feed-forward block
        between = [off if index == place else None for index in range(3)]
        masks = NO_MASKS._replace(between_layers=tuple(between))
    else:
        masks = (
            NO_MASKS._replace(embedding=off)
            if place == "embedding"
            else NO_MASKS._replace(output=off)
        )
    logits_BTV, _ = model(ids(), masks=masks)
    other_BTV, _ = model((ids() + 1) % SHAPE.vocab_size, masks=masks)
    torch.testing.assert_close(
        logits_BTV, other_BTV
    )  # nothing of the input passes an all-zero mask
    assert not torch.allclose(logits_BTV, model(ids())[0])


def test_copies_of_the_output_are_those_of_its_masks() -> None:
    model = with_opinions(make("fused"))
    copies = torch.rand(
        2, 1, 4, SHAPE.hidden_size, generator=torch.Generator().manual_seed(2)
    ).double()
    logits_NTV, state = model(ids(), masks=NO_MASKS._replace(output=copies))
    for copy, logits_BTV in zip(copies, logits_NTV.chunk(2), strict=True):
        alone_BTV, same_state = model(ids(), masks=NO_MASKS._replace(output=copy[None]))
        torch.testing.assert_close(logits_BTV, alone_BTV)
        torch.testing.assert_close(state, same_state)


def test_a_fresh_feed_forward_block_adds_nothing_and_a_trained_one_does() -> None:
    model = make("fused")
    logits_BTV, _ = model(ids())
    without = CharLSTM(SHAPE._replace(feed_forward_size=0), "fused").double()
    without.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("feed_forward")}
    )
    assert (
        model.shape.num_parameters - without.shape.num_parameters
        == 2 * SHAPE.hidden_size * SHAPE.feed_forward_size
    )
    torch.testing.assert_close(without(ids())[0], logits_BTV)
    assert not torch.allclose(with_opinions(model)(ids())[0], logits_BTV)


def test_initial_weights_follow_their_description() -> None:
    weights = initial_weights(
        SHAPE, "orthogonal", forget_gate_bias=1.0, generator=torch.Generator().manual_seed(0)
    )
    again = initial_weights(
        SHAPE, "orthogonal", forget_gate_bias=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (weights["layers.1.cell.forget_gate.from_input.bias"] == 1).all()
    assert (weights["layers.1.cell.output_gate.from_input.bias"] == 0).all()
    recurrent = weights["layers.2.cell.candidate.from_hidden.weight"]
    torch.testing.assert_close(
        recurrent @ recurrent.T, torch.eye(SHAPE.hidden_size), atol=1e-5, rtol=0
    )


def test_uniform_initial_weights_are_those_of_linear_layers() -> None:
    shape = ModelShape(vocab_size=65, embedding_size=0, hidden_size=256, num_layers=2)
    weights = initial_weights(
        shape, "uniform", forget_gate_bias=3.0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(weights["embedding.weight"], torch.eye(65))
    for name, num_read, middle in (
        ("layers.0.cell.output_gate.from_input.weight", 65, 0.0),
        ("layers.0.cell.output_gate.from_input.bias", 65, 0.0),
        ("layers.0.cell.forget_gate.from_input.bias", 65, 3.0),
        ("layers.0.cell.candidate.from_hidden.weight", 256, 0.0),
        ("layers.1.cell.input_gate.from_input.bias", 256, 0.0),
        ("head.bias", 256, 0.0),
    ):
        bound, off = num_read**-0.5, (weights[name] - middle).abs()
        assert 0.9 * bound < off.max() <= bound * 1.00001, name
        assert abs(off.mean() / bound - 0.5) < 0.1, name  # uniform


def loss_and_gradients(
    model: CharLSTM, targets_BT: torch.Tensor, masks: DropoutMasks | None
) -> list[torch.Tensor]:
    model.zero_grad()
    nats, end = SummedLoss(model)(ids(), model.zero_state(4), masks, None, targets_BT)
    torch.autograd.backward(nats * 0.1 + end.cell.sum())
    return [
        nats.detach(),
        *(part.detach() for part in end),
        *(w.grad for w in model.parameters() if w.grad is not None),
    ]


@pytest.mark.parametrize("num_copies", [None, 3])
@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize("at_once", [11, 50])  # logits: those of one character, of four
def test_a_head_in_pieces_has_the_same_loss_and_gradients(
    implementation: Implementation,
    num_copies: int | None,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, targets_BT = with_opinions(make(implementation)), ids().roll(1, 1)
    targets_BT[1, 3:] = IGNORE
    masks = None
    if num_copies:
        generator = torch.Generator().manual_seed(3)
        masks = NO_MASKS._replace(
            output=torch.rand((num_copies, 1, 4, 7), generator=generator).double().round() * 2
        )
    plain = loss_and_gradients(model, targets_BT, masks)
    monkeypatch.setattr(loss, "MAX_LOGITS", 0)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    pieces = loss_and_gradients(model, targets_BT, masks)
    assert len(plain) == len(pieces) > 10
    torch.testing.assert_close(pieces, plain, rtol=1e-12, atol=1e-12)


@needs_bf16
def test_weights_in_another_dtype_compute_the_same_bits_as_if_cast_one_by_one() -> None:
    layer, x_TBI, zeros_BH = FusedLayer(5, 7), torch.randn(6, 4, 5), torch.zeros(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        mine, last = layer(x_TBI, LSTMState(zeros_BH, zeros_BH))
    weights = list(layer.lstm.parameters())
    start = [zeros_BH[None].bfloat16()] * 2
    cast = [weight.bfloat16() for weight in weights]
    theirs, hidden, cell = torch.lstm(
        x_TBI.bfloat16(), start, cast, True, 1, 0.0, True, False, False
    )
    assert (
        torch.equal(mine, theirs)
        and torch.equal(last.hidden, hidden[0])
        and torch.equal(last.cell, cell[0])
    )
    trained = [weight for weight in weights if weight.requires_grad]
    gradients = [torch.autograd.grad(one.float().square().sum(), trained) for one in (mine, theirs)]
    assert len(trained) == 3 and all(map(torch.equal, *gradients))
