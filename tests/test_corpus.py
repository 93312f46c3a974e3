from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import CorpusError
from charlstm.storage.files import write_text
from charlstm.text.corpus import read_text, split_text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_text_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    write_text(path, text)
    assert read_text(path) == text


def test_newlines_and_byte_order_marks_stay(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "text.txt") == "\ufeffa\r\nb\rc\n"


def test_bad_bytes_are_located(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"na\xefve")
    with pytest.raises(CorpusError, match="byte 0xef at offset 2"):
        read_text(tmp_path / "text.txt")


@given(st.text(min_size=40), st.floats(0.1, 0.9))
def test_split_is_contiguous_and_lossless(text: str, val_fraction: float) -> None:
    train, val = split_text(text, val_fraction)
    assert train + val == text
    assert len(val) == pytest.approx(len(text) * val_fraction, abs=1)


def test_tiny_shakespeare_splits_as_published() -> None:
    train, val = split_text("x" * 1_115_394, 0.1)
    assert (len(train), len(val)) == (1_003_854, 111_540)


def test_too_short_a_text() -> None:
    with pytest.raises(CorpusError, match="9 for training and 1 for validation"):
        split_text("0123456789", 0.1)
