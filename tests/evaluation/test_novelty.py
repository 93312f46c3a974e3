"""What is not like the rest of a text is found first."""

import numpy as np
import pytest
from learning import learn

import charlstm

FOREIGN = {
    "German": "Es war einmal ein armer Mann, der lebte mit seiner Frau\nin einem kleinen Haus am Rande des Landes.\n",
    "Latin": "Gallia est omnis divisa in partes tres, unam\nincolunt Belgae, aliam Aquitani, tertiam Celtae.\n",
    "nonsense": "xv bnm ploi trez uyt gfd\nhgf dsa poi rew bvc\n",
}


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
