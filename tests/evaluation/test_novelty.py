"""Lines that surprise the model most."""

import numpy as np

from charlstm.language_model.scoring import Score
from charlstm.model.protocols import LossSum


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
