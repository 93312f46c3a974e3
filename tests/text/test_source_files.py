import os
import socket
from pathlib import Path

import pytest

from charlstm.corpus.conversion import files_of, local_path
from charlstm.corpus.download import download
from charlstm.errors import CorpusError

TEXT = b"To be, or not to be"


def names(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in files_of(folder)]


def fill(folder: Path, *paths: str, content: bytes = TEXT) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def test_a_folder_gives_its_texts_in_name_order(tmp_path: Path) -> None:
    fill(
        tmp_path, "b/2.txt", "b/10.TXT", "a.md", "c.text", "b.txt", "notes.pdf", ".hidden.txt", ".git/x.txt", "b/.y.txt"
    )
    os.mkfifo(tmp_path / "fifo.txt")
    assert names(tmp_path) == ["a.md", "b/10.TXT", "b/2.txt", "b.txt", "c.text"]


def test_without_the_usual_names_whatever_holds_no_zero_byte_is_a_text(tmp_path: Path) -> None:
    fill(tmp_path, "Genesis", "Exodus", "poem.html")
    fill(tmp_path, "picture", content=b"\x89PNG\0")
    assert names(tmp_path) == ["Exodus", "Genesis", "poem.html"]


def test_a_folder_without_texts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match="folder: expected texts .*, found a folder without any; set download.source"):
        download(tmp_path / "target", str(tmp_path / "folder"), None)
    with pytest.raises(OSError, match="No such file"):
        files_of(tmp_path / "missing")


def test_which_sources_are_paths() -> None:
    assert local_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert local_path("https://example.org/x") is None


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, kind in [(tmp_path / "fifo", "FIFO"), (tmp_path / "socket", "socket"), ("/dev/zero", "device")]:
            with pytest.raises(CorpusError, match=f"expected a file, found a {kind}"):
                download(tmp_path / "target", str(name), None)
    assert not (tmp_path / "target").exists()


def test_linked_files_are_read_once(tmp_path: Path) -> None:
    """A text that is there twice would be trained on and held out."""
    fill(tmp_path, "texts/a.txt", "texts/b.txt", "elsewhere/c.txt")
    (tmp_path / "texts/z-latest.txt").symlink_to("a.txt")
    (tmp_path / "texts/c.txt").symlink_to(tmp_path / "elsewhere/c.txt")
    assert names(tmp_path / "texts") == ["a.txt", "b.txt", "c.txt"]
