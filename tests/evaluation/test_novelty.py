"""What is not like the rest of a text is found first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning import learn

import charlstm
from charlstm.language_model.scoring import maximal_runs, surprising

FOREIGN = {
    "German": "Es war einmal ein armer Mann, der lebte mit seiner Frau\nin einem kleinen Haus am Rande des Landes.\n",
    "Latin": "Gallia est omnis divisa in partes tres, unam\nincolunt Belgae, aliam Aquitani, tertiam Celtae.\n",
    "nonsense": "xv bnm ploi trez uyt gfd\nhgf dsa poi rew bvc\n",
}


def brute_force(scores: list[float]) -> list[tuple[int, int]]:
    """By definition (Ruzzo & Tompa 1999): the run with the largest sum, the shortest of those, then left and right."""
    sums = [
        (sum(scores[first:end]), first - end, -first, (first, end))
        for first in range(len(scores))
        for end in range(first + 1, len(scores) + 1)
    ]
    best = max(sums, default=None)
    if best is None or best[0] <= 0:
        return []
    first, end = best[3]
    after = [(end + left, end + right) for left, right in brute_force(scores[end:])]
    return [*brute_force(scores[:first]), (first, end), *after]


@given(st.lists(st.integers(-5, 5).filter(bool), max_size=14))
def test_maximal_runs_are_those_of_the_definition(scores: list[int]) -> None:
    values = [score + position / 1024 for position, score in enumerate(scores)]  # no ties
    assert maximal_runs(values) == brute_force(values)


def prose(num_lines: int, seed: int) -> str:
    """Lines of one kind: simple sentences, in paragraphs of six."""
    random = np.random.default_rng(seed)
    words = [("The fox", "A child", "Her dog", "The miller"), ("sees", "likes", "never eats"), ("a tree", "the bread")]
    lines = [" ".join([*map(random.choice, words), random.choice(["today.", "at night."])]) for _ in range(num_lines)]
    return "\n\n".join("\n".join(lines[start : start + 6]) for start in range(0, num_lines, 6)) + "\n"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> charlstm.Model:
    """A model that knows such prose, and the letters of `FOREIGN` only by sight."""
    letters = "".join(sorted(set("".join(FOREIGN.values()))))
    return charlstm.load(learn(prose(300, 0) + letters, tmp_path_factory.mktemp("reader") / "model", steps=60))


@pytest.mark.parametrize("language", FOREIGN)
def test_a_foreign_paragraph_is_found_first(reader: charlstm.Model, language: str) -> None:
    text, foreign = prose(60, 1), FOREIGN[language]
    at = text.index("\n\n", len(text) // 2) + 2
    score = reader.score(text[:at] + foreign + "\n" + text[at:])
    first = score.most_surprising()[0]
    assert first.text == foreign.strip("\n")
    assert first.first_line == text.count("\n", 0, at) + 1
    assert first.nats_per_char > score.nats_per_char + 1


def test_passages_have_lines_and_places() -> None:
    text = "aaaaaaaaaa\nbbbbbbbbbb\n\ncccccccccc\n" + "aaaaaaaaaa\n" * 9
    nats = np.array([{"a": 1.0, "b": 4.0, "c": 4.0, "\n": 1.0}[one] for one in text])
    nats[0] = np.nan
    (passage,) = surprising(text, nats)
    assert (passage.first_line, passage.last_line, passage.start, passage.end) == (2, 4, 11, 33)
    assert passage.text == text[passage.start : passage.end] == "bbbbbbbbbb\n\ncccccccccc"
    assert passage.nats_per_char > 3
