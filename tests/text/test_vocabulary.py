"""Vocabularies of characters: ids, files, damage, and unknown characters."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.text.encoded import load_ids
from charlstm.text.prompts import replaced
from charlstm.text.vocabulary import UNSEEN, Vocab, load_vocab

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)]
)
def test_ids_take_the_smallest_dtype(size: int, dtype: type) -> None:
    codes = (code for code in range(0x20, 0x20 + size + 3000) if not 0xD800 <= code < 0xE000)
    characters = "".join(map(chr, islice(codes, size)))
    vocab = Vocab.of(characters)
    assert len(vocab) == size
    assert vocab.encode(characters).dtype == dtype
    assert vocab.encode(characters)[-1] == size - 1


def test_unknown_characters_are_named() -> None:
    with pytest.raises(VocabularyError, match=r"of 2 characters lacks 'ß' \(U\+00DF, 2 times\)"):
        Vocab.of("ab").encode("aßbß")


@given(TEXTS)
def test_files_round_trip(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("vocab")
    vocab = Vocab.of(text)
    assert list(vocab.characters) == sorted(set(text))
    vocab.save(folder / "vocab.json")
    assert load_vocab(folder / "vocab.json") == vocab
    if len(text) > 1:
        np.save(folder / "ids.npy", vocab.encode(text))
        loaded = load_ids(folder / "ids.npy")
        assert isinstance(loaded, np.memmap)
        assert vocab.decode(loaded) == text


@pytest.mark.parametrize(
    "content",
    [
        *('{"characters": ["a", "a"]}', '{"characters": ["ab"]}', '{"characters": "abc"}'),
        *('{"characters": ["\\ud800"]}', '{"unit": "word"}', "[]", "{"),
    ],
)
def test_damaged_vocabulary(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(VocabularyError, match="vocab.json: expected .* damaged"):
        load_vocab(tmp_path / "vocab.json")


PLAIN = Vocab.of("\n !'-.,abcdefghijklmnopqrstuvwxyzABDEF")
SIGNED = Vocab.of(PLAIN.characters + UNSEEN)


@given(st.text(max_size=20))
def test_whatever_comes_out_is_known(text: str) -> None:
    for vocab in (PLAIN, SIGNED):
        assert not vocab.unknown(replaced(text, vocab))
        assert replaced(replaced(text, vocab), vocab) == replaced(text, vocab)
    assert replaced("a\u0416b", SIGNED) == f"a{UNSEEN}b" and replaced("a\u0416b", PLAIN) == "ab"
