"""Lines that differ from the rest of a text are found first."""

import numpy as np
import pytest

import charlstm
from charlstm.language_model.scoring import Score
from charlstm.model.protocols import LossSum
from tests.support.learning import learn

FOREIGN = {
    "German": (
        "Es war einmal ein armer Mann, der lebte mit seiner Frau\n"
        "in einem kleinen Haus am Rande des Landes.\n"
    ),
    "Latin": (
        "Gallia est omnis divisa in partes tres, unam\n"
        "incolunt Belgae, aliam Aquitani, tertiam Celtae.\n"
    ),
    "nonsense": "xv bnm ploi trez uyt gfd\nhgf dsa poi rew bvc\n",
}


def prose(num_lines: int, seed: int) -> str:
    """Return simple sentences, a line each, in paragraphs of six."""
    random = np.random.default_rng(seed)
    subjects = ("The fox", "A child", "Her dog", "The miller")
    words = [subjects, ("sees", "likes", "never eats"), ("a tree", "the bread")]
    text = ""
    for number in range(1, num_lines + 1):
        sentence = [*map(random.choice, words), random.choice(["today.", "at night."])]
        text += " ".join(sentence) + ("\n" if number % 6 else "\n\n")
    return text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> charlstm.Model:
    """Return a model that knows such prose, and only the letters of `FOREIGN`."""
    letters = "".join(sorted(set("".join(FOREIGN.values()))))
    folder = tmp_path_factory.mktemp("reader") / "model"
    return charlstm.load(learn(prose(300, 0) + letters, folder, steps=60))


@pytest.mark.parametrize("language", FOREIGN)
def test_foreign_lines_are_found_first(reader: charlstm.Model, language: str) -> None:
    text = prose(60, 1)
    foreign = FOREIGN[language]
    at = text.index("\n\n", len(text) // 2) + 2
    score = reader.score(text[:at] + foreign + "\n" + text[at:])
    found = score.most_surprising(2)
    lines = foreign.splitlines()
    assert {one.text for one in found} == {*lines}
    first = text.count("\n", 0, at) + 1
    assert sorted(one.line for one in found) == [first, first + 1]
    assert all(one.nats_per_char > score.nats_per_char + 1 for one in found)


def test_lines_have_numbers_and_places() -> None:
    text = "aaaaaaaaaa\nbbbbbbbbbb\n\ncccccccccc\nd\n" + 30 * "eeee "
    nats = np.array([{"b": 4.0, "c": 5.0, "d": 9.0}.get(one, 1.0) for one in text])
    nats[0] = np.nan
    found = Score(text, nats, LossSum(float(np.nansum(nats)), len(text) - 1)).most_surprising(9)
    places = [(one.line, one.text[:10]) for one in found]
    assert places[:2] == [(4, "cccccccccc"), (2, "bbbbbbbbbb")]
    # A short line says too little, and a long line is cut.
    assert sorted(line for line, _ in places) == [1, 2, 4, 6, 6]
    assert all(one.text == text[one.start : one.end] for one in found)
    assert found[1].nats_per_char == (4.0 * 10 + 1.0) / 11
