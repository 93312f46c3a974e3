"""The corpus of sources in several encodings, and the files of a folder."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.corpus.encodings import Form, corpus_pieces
from charlstm.corpus.fetch import files_of, source_sha256
from charlstm.errors import CorpusError
from charlstm.files import atomic
from tests.support import reference

TEXTS = st.text(st.sampled_from("ab\r\n\té"), min_size=1, max_size=30)
ENCODINGS = [
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7"),
    *("latin1", "cp1252", "gb18030", "shift_jis"),
]


def convert(folder: Path, contents: list[bytes], form: Form) -> bytes:
    """Return the corpus of files with these contents, after a check of the source's hash."""
    files = []
    for index, content in enumerate(contents):
        files.append(folder / f"{index}.txt")
        files[-1].write_bytes(content)
    seen: list[str] = []
    atomic.write_pieces(folder / "corpus", corpus_pieces(files, form), check=seen.append)
    assert source_sha256(files) == hashlib.sha256(b"\n".join(contents)).hexdigest()
    corpus = (folder / "corpus").read_bytes()
    assert seen == [hashlib.sha256(corpus).hexdigest()]
    return corpus


@given(
    st.lists(TEXTS, min_size=1, max_size=3),
    st.sampled_from(ENCODINGS),
    st.sampled_from(["keep", "lf"]),
    st.integers(1, 9),
)
def test_the_corpus_is_the_decoded_files_joined(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    encoding: str,
    newlines: str,
    piece_bytes: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    if encoding == "shift_jis":  # it has no é
        texts = [text.replace("é", "e") for text in texts]
    contents = [text.encode(encoding) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "PIECE_BYTES", piece_bytes)
        found = convert(folder, contents, Form(encoding, newlines))
    assert found == reference.corpus(contents, encoding, newlines)


def test_a_byte_order_mark_is_a_character_unless_it_is_named(tmp_path: Path) -> None:
    assert convert(tmp_path, [b"\xef\xbb\xbfa\r\n"], Form()) == b"\xef\xbb\xbfa\r\n"
    assert convert(tmp_path, [b"\xef\xbb\xbfa\r\n"], Form("utf-8-sig")) == b"a\r\n"


def test_what_is_not_in_the_encoding_leaves_nothing(tmp_path: Path) -> None:
    contents = [b"fine", b"x\nna\xefve et gar\xe7on\n"]
    for piece_bytes in (1, 3, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "PIECE_BYTES", piece_bytes)
            with pytest.raises(CorpusError, match=r"1.txt: .* found byte 0xef at offset 4"):
                convert(tmp_path, contents, Form())
    assert len([*tmp_path.iterdir()]) == len(contents)


def test_a_folder_gives_its_texts_in_name_order(tmp_path: Path) -> None:
    names = ["b/2.txt", "b/10.TXT", "a.md", "c.text", "b.txt"]
    ignored = ["notes.pdf", ".hidden.txt", ".git/x.txt", "b/.y.txt"]
    for name in names + ignored:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text")
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "empty").mkdir()
    found = [str(file.relative_to(tmp_path)) for file in files_of(tmp_path)]
    # A folder sorts as its name without a suffix.
    assert found == ["a.md", "b/10.TXT", "b/2.txt", "b.txt", "c.text"]
    for missing in ("empty", "missing", "fifo.txt"):
        expected = f"{missing}: expected a file, or a folder with texts"
        with pytest.raises(CorpusError, match=expected):
            files_of(tmp_path / missing)
