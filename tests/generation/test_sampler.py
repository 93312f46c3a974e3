"""Texts do not depend on other texts of the batch, or on streaming."""

import random

import pytest
import torch

from charlstm.generation.sampler import Generated, Request, Sampler
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab
from tests.support.models import random_model

VOCAB = Vocab.of("abcdefghij\n")
RULE = Sampling(temperature=0.8, top_k=None, top_p=0.9)


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    return random_model(ModelShape(len(VOCAB), 6, 8, 3, 12), factor=5)


@pytest.fixture(scope="module")
def sampler(model: CharLSTM) -> Sampler:
    return Sampler(model, VOCAB)


def request(number: int, **changes: object) -> Request:
    rules = [
        RULE,
        Sampling(temperature=1.0),
        Sampling(temperature=0),
        Sampling(temperature=1.2, top_k=3, top_p=0.7, min_p=0.05),
        Sampling(temperature=2.0, min_p=0.2),
    ]
    sampling = rules[number % 5]._replace(num_chars=20 + number % 13, seed=number // 3)
    prompt = ["a", "abc", "\n", "jihgfedcba"][number % 4]
    return drawn(Request(prompt, sampling, number=number % 3), **changes)


def drawn(one: Request, **options: object) -> Request:
    return one._replace(sampling=one.sampling._replace(**options))  # type: ignore[arg-type]


def texts(found: list[Generated]) -> list[str]:
    return [one.text for one in found]


@pytest.mark.parametrize("num_rows", [1, 2, 18, 256, 300])
def test_a_text_is_the_same_in_any_batch(sampler: Sampler, num_rows: int) -> None:
    requests = [request(number) for number in range(num_rows)]
    together = sampler.generate(requests)
    order = random.Random(0).sample(range(num_rows), num_rows)
    shuffled = sampler.generate([requests[number] for number in order])
    assert [together[number].text for number in order] == texts(shuffled)
    for number in range(0, num_rows, 1 + num_rows // 20):
        (alone,) = sampler.generate([requests[number]])
        assert together[number].text == alone.text
        assert torch.equal(together[number].state.hidden, alone.state.hidden)
        assert torch.equal(together[number].state.cell, alone.state.cell)
    assert len(set(texts(together))) > num_rows // 2
    assert [len(one.text) for one in together] == [one.sampling.num_chars for one in requests]


def test_a_state_goes_on_where_it_stopped(sampler: Sampler) -> None:
    def generate(prompt: str, num_chars: int, state: LSTMState | None = None) -> Generated:
        rule = Sampling(temperature=0, num_chars=num_chars, seed=1)
        (found,) = sampler.generate([Request(prompt, rule, state=state)])
        return found

    whole = generate("abc", 30)
    first = generate("abc", 12)
    rest = generate("", 18, first.state)
    assert first.text + rest.text == whole.text
    assert torch.equal(rest.state.cell, whole.state.cell)
    assert generate("abc" + first.text, 18).text == rest.text


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_string_ends_a_text(sampler: Sampler, length: int) -> None:
    """The string may stand anywhere, also across chunks. The state is that after the string."""
    requests = [request(number, num_chars=100) for number in range(15)]
    stopped: list[Request] = []
    ends: list[str] = []
    cut: list[Request] = []
    for one, full in zip(requests, texts(sampler.generate(requests)), strict=True):
        for at in (0, 1, 29, 30, 31, 32, 33, 63, 64, 97):
            stop = full[at : at + length]
            ends.append(full[: full.index(stop)])
            stopped.append(drawn(one, stop=("zz", stop)))
            cut.append(drawn(one, num_chars=len(ends[-1]) + length))
    found = sampler.generate(stopped)
    same = sampler.generate(cut)
    assert texts(found) == ends
    assert {one.reason for one in found} == {"stop"} and {one.reason for one in same} == {"length"}
    kept = sampler.generate([drawn(one, keep_stop=True) for one in stopped])
    stops = [one.sampling.stop[1] for one in stopped]
    assert texts(kept) == [end + stop for end, stop in zip(ends, stops, strict=True)]
    for first, second, third in zip(found, kept, same, strict=True):
        assert torch.equal(first.state.cell, second.state.cell)
        assert torch.equal(first.state.cell, third.state.cell)
    assert len({len(end) for end in ends}) > 10


def test_a_stream_gives_the_same_text(sampler: Sampler) -> None:
    for number in range(12):
        one = request(number, num_chars=70)
        (full,) = sampler.generate([one])
        stream = sampler.stream(one)
        text = ""
        with pytest.raises(StopIteration) as stopped:
            while True:
                text += next(stream)
        assert text == full.text and torch.equal(stopped.value.value.cell, full.state.cell)
        stop = (full.text[40:42], full.text[50:55])
        (cut,) = sampler.generate([drawn(one, stop=stop)])
        assert "".join(sampler.stream(drawn(one, stop=stop))) == cut.text
        keeping = drawn(one, stop=stop, keep_stop=True)
        (kept,) = sampler.generate([keeping])
        assert "".join(sampler.stream(keeping)) == kept.text != cut.text
