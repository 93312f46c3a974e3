"""What is not like the rest of a text is found first."""

import numpy as np
import pytest

import charlstm
from charlstm.language_model.scoring import Score
from charlstm.model.protocols import LossSum
from tests.support.learning import learn

FOREIGN = {
    "German": "Es war einmal ein armer Mann, der lebte mit seiner Frau\nin einem kleinen Haus am Rande des Landes.\n",
    "Latin": "Gallia est omnis divisa in partes tres, unam\nincolunt Belgae, aliam Aquitani, tertiam Celtae.\n",
    "nonsense": "xv bnm ploi trez uyt gfd\nhgf dsa poi rew bvc\n",
}


def prose(num_lines: int, seed: int) -> str:
    """Lines of one kind: simple sentences, in paragraphs of six."""
    random = np.random.default_rng(seed)
    words = [
        ("The fox", "A child", "Her dog", "The miller"),
        ("sees", "likes", "never eats"),
        ("a tree", "the bread"),
    ]
    lines = [
        " ".join([*map(random.choice, words), random.choice(["today.", "at night."])])
        for _ in range(num_lines)
    ]
    return (
        "\n\n".join("\n".join(lines[start : start + 6]) for start in range(0, num_lines, 6)) + "\n"
    )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> charlstm.Model:
    """A model that knows such prose, and the letters of `FOREIGN` only by sight."""
    letters = "".join(sorted(set("".join(FOREIGN.values()))))
    return charlstm.load(
        learn(prose(300, 0) + letters, tmp_path_factory.mktemp("reader") / "model", steps=60)
    )


@pytest.mark.parametrize("language", FOREIGN)
def test_foreign_lines_are_found_first(reader: charlstm.Model, language: str) -> None:
    text, foreign = prose(60, 1), FOREIGN[language]
    at = text.index("\n\n", len(text) // 2) + 2
    score = reader.score(text[:at] + foreign + "\n" + text[at:])
    found = score.most_surprising(2)
    lines = foreign.splitlines()
    assert {one.text for one in found} == {*lines}
    assert sorted(one.line for one in found) == [
        text.count("\n", 0, at) + number for number in (1, 2)
    ]
    assert all(one.nats_per_char > score.nats_per_char + 1 for one in found)


def test_lines_have_numbers_and_places() -> None:
    text = "aaaaaaaaaa\nbbbbbbbbbb\n\ncccccccccc\nd\n" + 30 * "eeee "
    nats = np.array([{"b": 4.0, "c": 5.0, "d": 9.0}.get(one, 1.0) for one in text])
    nats[0] = np.nan
    found = Score(text, nats, LossSum(float(np.nansum(nats)), len(text) - 1)).most_surprising(9)
    assert [(one.line, one.text[:10]) for one in found[:2]] == [
        (4, "cccccccccc"),
        (2, "bbbbbbbbbb"),
    ]
    assert sorted(one.line for one in found) == [
        1,
        2,
        4,
        6,
        6,
    ]  # a short line says too little, a long one is cut
    assert all(one.text == text[one.start : one.end] for one in found)
    assert found[1].nats_per_char == (4.0 * 10 + 1.0) / 11
