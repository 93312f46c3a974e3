"""Saved states are complete and belong to their model, or are refused in one line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import charlstm
from charlstm.errors import CharlstmError
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab


def make(folder: Path, seed: int) -> charlstm.Model:
    torch.manual_seed(seed)
    shape = ModelShape(3, 4, 6, 2)
    save_model(folder, CharLSTM(shape, "gates").state_dict(), shape, Vocab.of("abc"))
    return charlstm.load(folder)


def test_a_saved_state_comes_back_as_it_was(tmp_path: Path) -> None:
    model = make(tmp_path / "model", 0)
    state = model.read("abcab")
    for path in (tmp_path / "one", str(tmp_path / "two")):
        state.save(path)
        assert charlstm.State.load(path) == state
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "one", "two"]
    assert state != model.read("abc")


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    make(tmp_path / "model", 0).read("abcab").save(tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    damaged = tmp_path / "damaged"
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        damaged.write_bytes(flipped)
        with pytest.raises(CharlstmError, match=f"{damaged}: expected a saved state"):
            charlstm.State.load(damaged)
    assert len(content) > 300


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    state = make(tmp_path / "one", 0).read("abc")
    other = make(tmp_path / "two", 1)
    expected = r"state: expected a state from model \w{12}, got a state from model \w{12}; read"
    for use in (other.generate, other.stream, other.score, other.read):
        with pytest.raises(CharlstmError, match=expected):
            use("abc", state=state)


def test_what_is_no_state_is_one_line(tmp_path: Path) -> None:
    make(tmp_path / "model", 0).read("abc").save(tmp_path / "state")
    (tmp_path / "text").write_text("not a state at all, but a text")
    more = {**load_file(tmp_path / "state"), "more": torch.zeros(1)}
    save_file(more, tmp_path / "more", {"model_sha256": "0" * 64})
    for name in ("text", "more", "missing", "model"):
        with pytest.raises(CharlstmError) as caught:
            charlstm.State.load(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: expected a saved state")
