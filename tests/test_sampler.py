import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.generation.sampler import SamplingRule, Stepper, draw, generate, probabilities
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.params import MIN_TEMPERATURE
from charlstm.text.vocabulary import Vocab

VOCAB = Vocab.of("abcdefghij\n")
LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    torch.manual_seed(0)
    model = CharLSTM(ModelShape(len(VOCAB), 6, 8, 3, 12), "gates").eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(5)  # a model with opinions
    return model


def test_stepper_equals_the_model(model: CharLSTM) -> None:
    stepper, ids = Stepper(model), torch.randint(0, len(VOCAB), (50,))
    logits_BTV, _ = model(ids[None])
    stepped = torch.stack([stepper.step(int(index)) for index in ids])
    torch.testing.assert_close(stepped, logits_BTV[0], atol=1e-5, rtol=1e-5)


def test_a_row_is_the_same_alone_and_among_others(model: CharLSTM) -> None:
    def text(prompt: str, temperature: float, seed: int) -> str:
        return generate(model, VOCAB, prompt, num_chars=40, rule=SamplingRule(temperature, None, 0.9), seed=seed)

    rows = [("a", 0.8, 1), ("abc", 1.0, 1), ("abc", 1.0, 2), ("\n", 2.0, 1)]
    together = [text(*row) for row in rows]
    assert [text(*row) for row in reversed(rows)] == together[::-1]
    assert len(set(together)) == 4
    assert all(len(one) == 40 for one in together)


def test_temperature_zero_takes_the_likeliest(model: CharLSTM) -> None:
    logits_BTV, _ = model(torch.from_numpy(VOCAB.encode("ab").astype("int64"))[None])
    text = generate(model, VOCAB, "ab", num_chars=1, rule=SamplingRule(0), seed=1)
    assert text == VOCAB.characters[int(logits_BTV[0, -1].argmax())]


def test_temperature_top_k_and_nucleus() -> None:
    torch.testing.assert_close(probabilities(LOGITS, SamplingRule(1.0)), LOGITS.exp())
    torch.testing.assert_close(probabilities(LOGITS, SamplingRule(0.5)), (LOGITS * 2).softmax(0))
    assert probabilities(LOGITS, SamplingRule(1.0, top_k=2)).tolist() == pytest.approx([5 / 7, 2 / 7, 0, 0, 0])
    assert probabilities(LOGITS, SamplingRule(1.0, top_p=0.6)).tolist() == pytest.approx([5 / 7, 2 / 7, 0, 0, 0])
    assert probabilities(LOGITS, SamplingRule(1.0, top_p=0.01)).tolist() == pytest.approx([1, 0, 0, 0, 0])
    assert probabilities(LOGITS, SamplingRule(1.0, top_k=99)).sum() == pytest.approx(1)
    shuffled = LOGITS[[3, 0, 4, 1, 2]]
    assert probabilities(shuffled, SamplingRule(1.0, top_k=2)).tolist() == pytest.approx([0, 5 / 7, 0, 2 / 7, 0])


@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, 1e-39, 1e-310])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e37])
def test_a_temperature_near_zero_takes_the_likeliest(temperature: float, scale: float) -> None:
    expected = torch.eye(5)[0]
    assert torch.equal(probabilities(LOGITS * scale, SamplingRule(temperature, top_p=0.9)), expected)
    tie = torch.tensor([scale, -scale, scale])
    assert probabilities(tie, SamplingRule(temperature)).tolist() == [0.5, 0, 0.5]


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=70), st.floats(0.01, 1e6))
def test_other_temperatures_are_a_plain_softmax(logits: list[float], temperature: float) -> None:
    logits_V = torch.tensor(logits)
    plain_V, order_V = torch.softmax(logits_V / temperature, dim=0).sort(descending=True, stable=True)
    plain_V = torch.zeros_like(logits_V).scatter(0, order_V, plain_V / plain_V.sum())
    assert torch.equal(probabilities(logits_V, SamplingRule(temperature, top_p=1.0 + 1e-6)), plain_V)  # to the bit


def test_draws_follow_the_distribution() -> None:
    generator, num_draws = torch.Generator().manual_seed(0), 4000
    draws = torch.tensor([draw(LOGITS, SamplingRule(1.0), generator) for _ in range(num_draws)])
    for index, probability in enumerate(LOGITS.exp().tolist()):
        spread = math.sqrt(probability * (1 - probability) / num_draws)
        assert (draws == index).float().mean().item() == pytest.approx(probability, abs=4 * spread)


def test_unknown_prompt_characters_are_named(model: CharLSTM) -> None:
    with pytest.raises(VocabularyError, match=r"'xaéx' has .*'x' \(U\+0078, 2 times\), 'é' \(U\+00E9, 1 times\)"):
        generate(model, VOCAB, "xaéx", num_chars=1, rule=SamplingRule(1.0), seed=0)
    with pytest.raises(VocabularyError, match="empty"):
        generate(model, VOCAB, "", num_chars=1, rule=SamplingRule(1.0), seed=0)
