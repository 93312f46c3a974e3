"""Sources that a training is made again from, and where a text stands."""

import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.projects import make_project
from charlstm.files import pieces
from pipeline.commands.reproduce import corpus_today, link_source, source_of
from pipeline.dvc.paths import Paths, load_paths
from pipeline.lineage.search import places_in_corpus


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose source is a folder that git does not know, in Windows' Cyrillic."""
    folder = tmp_path / "project"
    make_project(folder, {"download.source": "texts", "download.watch": "texts", "download.encoding": "cp1251"})
    (folder / "texts").mkdir()
    (folder / "texts/1.txt").write_bytes("Война\r\n".encode("cp1251"))
    (folder / "texts/2.txt").write_bytes("и мир".encode("cp1251"))
    monkeypatch.chdir(folder)
    return folder


def test_the_corpus_that_a_source_gives_today(project: Path) -> None:
    params = (project / "params.yaml").read_text()
    assert source_of(params) == Path("texts")
    assert corpus_today(params) == hashlib.sha256("Война\r\n\nи мир".encode()).hexdigest()
    (project / "texts/2.txt").write_bytes(b"\x98")
    assert corpus_today(params) is None
    old = YAML(typ="safe").load(params)["download"] | {"source": "text.txt"}
    old = {name: old[name] for name in ("source", "sha256")}  # as it was before there were encodings
    assert (
        corpus_today(f"download: {old}".replace("None", "null"))
        == hashlib.sha256((project / "text.txt").read_bytes()).hexdigest()
    )


def test_a_source_beside_the_project_is_found_from_elsewhere(project: Path, tmp_path: Path) -> None:
    make_project(tmp_path / "again", {"download.source": "texts", "download.watch": "text.txt"})
    link_source(tmp_path / "again")
    assert (tmp_path / "again/texts/1.txt").read_bytes() == (project / "texts/1.txt").read_bytes()


def test_places_are_found_in_pieces_and_in_three_parts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(**{name: project / path for name, path in load_paths(Path("dvc.yaml"))})
    parts = {"train": "мир и\nвойна и\n", "val": "мир\n", "test": "и мир"}
    paths.split.mkdir(parents=True)
    for name, part in parts.items():
        (paths.split / f"{name}.txt").write_text(part)
    paths.corpus.write_text("".join(parts.values()))
    monkeypatch.setattr(pieces, "PIECE_BYTES", 5)
    found = [(place["line"], place["part"]) for place in places_in_corpus("мир", paths)]
    assert found == [(1, "training"), (3, "validation"), (4, "test")]
    assert [place["part"] for place in places_in_corpus("и\nмир", paths)] == ["validation"]
    assert places_in_corpus("nowhere", paths) == []
