"""The public model: texts, scores, states, and errors of wrong arguments."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import charlstm
from charlstm.errors import TextRequestError
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.protocols import stateful
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN, Vocab

PROMPT = "The model "


@pytest.fixture(scope="module")
def model(learned: Path) -> charlstm.Model:
    return charlstm.load(learned)


def test_the_same_arguments_give_the_same_text_alone_among_others_and_as_a_stream(
    model: charlstm.Model,
) -> None:
    def generate(**options: Any) -> str:
        return str(model.generate(PROMPT, num_chars=60, **{"seed": 5, **options}))

    one = generate()
    assert len(one) == 60
    assert "".join(model.stream(PROMPT, num_chars=60, seed=5)) == one
    several = model.generate(PROMPT, num_chars=60, seed=5, num_texts=3)
    assert several[0] == one
    assert len(set(several)) == 3
    assert generate(temperature=0) == generate(top_k=1, seed=9)
    for option in ({"seed": 6}, {"top_p": 0.3}, {"min_p": 0.5}, {"temperature": 2.0}, {"top_k": 2}):
        assert generate(**option) != one


def test_each_of_several_prompts_gives_what_it_gives_alone(model: charlstm.Model) -> None:
    prompts = ["The model ", "a", "The model ", "def "]
    before = model.state
    texts = model.generate(prompts, num_chars=40, seed=5)
    (nested, *_) = model.generate(prompts, num_chars=40, seed=5, num_texts=2)
    assert model.state is before
    assert texts == [model.generate(prompt, num_chars=40, seed=5) for prompt in prompts]
    assert nested == model.generate(prompts[0], num_chars=40, seed=5, num_texts=2)
    state = model.read("abc")
    first, _ = model.generate(["", "a"], num_chars=9, state=state)
    assert first == model.generate("", num_chars=9, state=state)
    expected = r"^prompt 3: the model never saw the characters 'Ж'"
    with pytest.raises(TextRequestError, match=expected):
        model.generate(["a", "b", "Ж"])


def test_a_text_is_a_str_that_says_why_it_ended(model: charlstm.Model) -> None:
    whole = model.generate(PROMPT, num_chars=60)
    assert isinstance(whole, charlstm.Text) and isinstance(whole, str) and whole.reason == "length"
    assert json.loads(json.dumps(whole)) == whole
    stop = whole[20:24]
    stopped = model.generate(PROMPT, num_chars=60, stop=stop)
    kept = model.generate(PROMPT, num_chars=60, stop=stop, keep_stop=True)
    assert (stopped.reason, kept.reason, kept) == ("stop", "stop", stopped + stop)
    assert "".join(model.stream(PROMPT, num_chars=60, stop=stop, keep_stop=True)) == kept
    copied = copy.deepcopy(kept)
    assert (copied, copied.reason) == (kept, "stop")


def test_the_state_is_that_of_the_last_text(model: charlstm.Model, learned: Path) -> None:
    fresh = charlstm.load(learned)
    assert fresh.state is None
    read = fresh.read("abc")
    assert fresh.state is read
    stream = fresh.stream("a", num_chars=5)
    next(stream)
    assert fresh.state is None  # an unfinished stream has no state
    list(stream)
    assert fresh.state is not None and fresh.state != read
    before = fresh.state
    fresh.generate("a", num_chars=5, num_texts=2)
    assert fresh.state is before
    fresh.score("abc")
    torch.testing.assert_close(fresh.state.lstm, read.lstm)


def test_unknown_characters_are_an_error_or_exchanged(model: charlstm.Model) -> None:
    with pytest.raises(TextRequestError, match="prompt: the model never saw the characters 'é'"):
        model.generate("modél")
    plain = model.generate("model's ", num_chars=30)
    assert model.generate("moЖdel's ", num_chars=30, unknown="replace") == plain
    assert model.score("moЖdel", unknown="replace").text == "model"


def test_unseen_characters_are_scored_as_evaluate_scores_them(tmp_path: Path) -> None:
    vocab = Vocab.of(f"ab{UNSEEN}")
    shape = ModelShape(3, 4, 5, 1)
    torch.manual_seed(0)
    save_model(tmp_path / "model", CharLSTM(shape, "gates").state_dict(), shape, vocab)
    model = charlstm.load(tmp_path / "model")
    assert model.score("aЖb").nats == model.score(f"a{UNSEEN}b").nats
    assert model.score("aЖb").text == "aЖb"
    assert model.read("aЖ") == model.read(f"a{UNSEEN}")
    with pytest.raises(TextRequestError, match="prompt: the model never saw"):
        model.generate("aЖ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_chars": 0}, "num_chars: expected a whole number of at least 1, got 0"),
        ({"stop": ["a", 5]}, "stop: expected a nonempty text, or a list of nonempty texts, got 5"),
        ({"stop": "Ж"}, "stop: the model cannot generate the characters 'Ж'"),
        ({"unknown": "guess"}, "unknown: expected 'error' or 'replace', got 'guess'"),
        ({"state": "here"}, "state: expected a charlstm.State, got 'here'"),
        ({"prompt": ""}, "prompt: expected at least one character, e.g. a newline"),
    ],
)
def test_a_wrong_argument_is_one_line(
    model: charlstm.Model, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(charlstm.CharlstmError) as caught:
        model.generate(**arguments)
    assert str(caught.value).startswith(message)
    with pytest.raises(charlstm.CharlstmError, match=message[:9]):
        model.stream(**arguments)  # at the call, not at the first character


def test_an_unknown_option_is_named(model: charlstm.Model) -> None:
    expected = r"generate\(\) got .* 'tempurature', did you mean temperature\?"
    with pytest.raises(TypeError, match=expected):
        model.generate(tempurature=1.0)  # type: ignore[call-overload]


def test_a_score_is_the_protocol_stateful_to_the_bit(
    model: charlstm.Model, learned: Path, text: str
) -> None:
    trained = load_model(learned, "fused")
    score = model.score(text)
    assert score.nats == stateful(trained.model, EncodedText(trained.vocab.encode(text))).nats
    assert math.isnan(score.char_nats[0]) and score.num_chars == len(text) - 1
    assert score.nats == pytest.approx(score.char_nats[1:].sum(), rel=1e-6)
    assert score.nats_per_char == score.nats / score.num_chars
    assert score.bits_per_char == pytest.approx(score.nats_per_char / math.log(2))
    assert score.perplexity == pytest.approx(math.exp(score.nats_per_char))
    assert [character for character, _ in score] == list(text)
