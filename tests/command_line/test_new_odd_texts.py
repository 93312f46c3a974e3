"""`charlstm new` on odd texts: each ends well, and the stages run on it, or in one true line that changes nothing."""

import codecs
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import Run
from stages import run_stages

from benchmarks.projects import ROOT
from charlstm.params import load_params
from charlstm.text.vocabulary import load_vocab
from pipeline.dvc.paths import load_paths

RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n" * 30
GERMAN = "Über den Wäldern lag ein süßer Duft, und die Vögel sangen größere Lieder als gestern früh.\n" * 30
ENGLISH = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 30
FAMILY, FLAG = "👩‍👩‍👧‍👦", "🏳️‍🌈"
MANY = "".join(chr(0x4E00 + index * 7919 % 5000) for index in range(5000))


class Case(NamedTuple):
    """A file, and what is made of it: settings, or a part of the one line that says why not."""

    content: bytes
    settings: dict[str, Any] = {}  # noqa: RUF012
    shown: str = ""  # a part of what is said
    error: str = ""


GOOD = {
    "1 kB": Case(ENGLISH[:1000].encode(), {"train.batch_size": 4}),
    "5 kB": Case((ENGLISH * 2)[:5000].encode(), {"train.epochs": 60, "train.dropout.output": 0.4}),
    "UTF-16 LE with BOM": Case(codecs.BOM_UTF16_LE + RUSSIAN.encode("utf-16-le"), {"download.encoding": "utf-16"}),
    "UTF-16 BE with BOM": Case(codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), {"download.encoding": "utf-16"}),
    "BOM": Case(codecs.BOM_UTF8 + RUSSIAN.encode(), {"download.encoding": "utf-8-sig"}, "byte order mark"),
    "CR LF": Case(
        ENGLISH.replace("\n", "\r\n").encode(),
        {"download.newlines": "lf"},
        "line ends that are CR LF: 30; they become LF",
    ),
    "CR": Case(ENGLISH.replace("\n", "\r").encode(), {"download.newlines": "keep"}, "30 CR without LF"),
    "NUL inside": Case(b"\0".join([ENGLISH.encode()] * 2), {}, "(U+0000, once)"),
    "one line of 2 MB": Case(b"the long line " * 143_000, {"model.hidden_size": 320}, "it is one line"),
    "no line break at the end": Case(ENGLISH.rstrip().encode()),
    "emoji": Case(f"{FAMILY} and {FLAG} say hello\n".encode() * 40, {}, "symbols"),
    "combining marks": Case("a\u0301\u0323 e\u0308 o\u0302\n".encode() * 90, {}, "marks"),
    "right to left": Case("בראשית ברא אלהים את השמים ואת הארץ \u202bمرحبا\u202c\n".encode() * 40, {}, "Hebrew"),
    "Chinese of 5,000 characters": Case((MANY[:3000] * 70 + MANY).encode(), {"encode.min_count": 2}, "of 5,000"),
    "5,000 characters, all rare": Case(MANY.encode() * 3, {"encode.min_count": 1}, "CJK 100.0%"),
    "private use": Case(f"{ENGLISH}\ue000\ue001".encode(), {}, "private-use"),
    "two characters": Case(b"ab" * 1000),
    "the sign of a wrong conversion": Case(f"{ENGLISH}\ufffd".encode(), {}, "U+FFFD 1 times"),
}
BAD = {
    "empty": Case(b"", error="found an empty file"),
    "only line breaks": Case(b"\n" * 1000, error=r"found '\n' over and over"),
    "one character": Case(b"a", error="expected at least 500 characters, found 1"),
    "all the same": Case(b"a" * 5000, error="found 'a' over and over"),
    "binary": Case(random.Random(1).randbytes(5000), error="in no known encoding"),
    "UTF-16 without its mark": Case(ENGLISH.encode("utf-16-le"), error="utf-16-le, utf-16-be or utf-32-le"),
    "koi8-r": Case(RUSSIAN.encode("koi8-r"), error="it may be koi8-r, which reads 'Все счастливые семьи"),
    "latin1": Case(GERMAN.encode("latin1"), error="it may be cp1252, which reads "),
    "UTF-8 with a bad byte": Case((RUSSIAN * 3).encode() + b"\xff" + (RUSSIAN * 3).encode(), error="mend that line"),
    "surrogates": Case(("\ud83d\ude00" * 9 + RUSSIAN).encode("utf-8", "surrogatepass"), error="found byte 0xed"),
    "UTF-8 cut": Case(RUSSIAN.encode()[:-3], error="the text around it is UTF-8: mend that line"),
    "UTF-16 cut": Case(codecs.BOM_UTF16_LE + ENGLISH.encode("utf-16-le")[:-1], error="some of it reads like utf-16,"),
    "one byte not ASCII": Case(ENGLISH.encode() + b"\xe9", error="--encoding"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing has run; the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    return folder


def files_of(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def assert_refused(run: Run, project: Path, error: str, *arguments: str | Path) -> None:
    before = files_of(project)
    code, out, log = run("new", *arguments)
    assert (code, out) == (2, "")
    (line,) = (line for line in log.splitlines() if not line.startswith("Downloading file"))
    assert line.startswith("ERROR: ") and error in line
    assert files_of(project) == before


def assert_stages_run(project: Path, text: str) -> None:
    run_stages(project, "download", "split", "encode")
    paths = load_paths(project / "dvc.yaml")
    assert (project / paths.corpus).read_bytes().decode() == text
    assert set(load_vocab(project / paths.encoded / "vocab.json").characters) <= {*text, "\ufffd"}


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_text_ends_well(run: Run, project: Path, tmp_path: Path, name: str) -> None:
    case = GOOD[name]
    (tmp_path / "odd.txt").write_bytes(case.content)
    code, out, log = run("new", tmp_path / "odd.txt")
    assert code == 0, log
    assert case.shown in out
    params = load_params(project / "params.yaml")
    flat = params.flat()
    assert {key: flat[key] for key in case.settings} == case.settings
    text = case.content.decode(params.download.encoding)
    assert_stages_run(project, text.replace("\r\n", "\n") if params.download.newlines == "lf" else text)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_text_is_told_in_a_line(run: Run, project: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "odd.txt").write_bytes(BAD[name].content)
    assert_refused(run, project, BAD[name].error, tmp_path / "odd.txt")


def test_files_that_were_named_are_known_in_a_checkout_that_was_moved_or_copied(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [tmp_path / name for name in ("a.txt", "b.txt")]
    for number, text in enumerate(texts):
        text.write_text(ENGLISH + str(number))
    assert run("new", *texts)[0] == 0
    links, moved = project / "Datasets/sources/a", tmp_path / "moved"
    before = load_params(project / "params.yaml").download
    assert (before.name, before.source, before.watch) == ("a", str(links), str(links))
    shutil.copytree(links, tmp_path / "copied")  # without links
    shutil.rmtree(links)
    shutil.move(tmp_path / "copied", links)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").write_text(ENGLISH)
    for arguments in ([], ["--force"]):  # another text
        assert run("new", tmp_path / "other/a.txt", texts[1], "--name", "a", *arguments)[0] == 2
    assert run("new", *texts)[0] == 0 and all(link.is_symlink() for link in links.iterdir())
    shutil.move(project, moved)
    monkeypatch.chdir(moved)
    assert run("new", *texts)[0] == 0
    after, links = load_params(moved / "params.yaml").download, moved / "Datasets/sources/a"
    assert (after.name, after.source, after.watch) == ("a", str(links), str(links))
    (tmp_path / "c.txt").write_text(ENGLISH * 2)
    shutil.rmtree(links)  # as in a clone: then only the very address is known
    assert run("new", texts[0], tmp_path / "c.txt", "--name", "a-2")[0] == 0
    assert load_params(moved / "params.yaml").download.name == "a-2"


def test_what_cannot_be_read_is_told_in_a_line(run: Run, project: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/.hidden").touch()
    (project / "Datasets").mkdir()
    (project / "Datasets/book.txt").write_text(ENGLISH)
    (tmp_path / "link").symlink_to(project / "Datasets/book.txt")
    for name, error in {
        "missing.txt": "missing.txt: there is no such file, and no corpus of that name",
        "fifo": "expected a file, found a FIFO",
        "loop": "loop: Too many levels of symbolic links",
        "folder": "found a folder without any",
        ".": "expected a text outside of ",
        "project/Datasets/book.txt": "expected a text outside of Datasets",
        "link": "expected a text outside of Datasets",
    }.items():
        assert_refused(run, project, error, tmp_path / name)
    assert_refused(run, project, "expected a path or an http(s) URL", "ftp://example.org/text.txt")
    assert_refused(run, project, "expected one URL", "https://example.org/text.txt", "https://example.org/more.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(run: Run, project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(ENGLISH)
    (tmp_path / "mine.txt").chmod(0)
    assert_refused(run, project, "mine.txt: Permission denied", tmp_path / "mine.txt")


def test_a_server_that_does_not_answer(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.corpus.download.NUM_RETRIES", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert_refused(run, project, "Connection refused", f"http://127.0.0.1:{port}/text.txt")


def test_files_that_differ_in_their_encoding(run: Run, project: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(RUSSIAN.encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(RUSSIAN.encode())
    assert_refused(run, project, "expected files in one encoding", tmp_path / "a.txt", tmp_path / "b.txt")


@pytest.mark.parametrize("name", ["Война и мир.txt", "-dash.txt", "quo'te\".txt", "2"])
def test_a_file_may_be_named_anything(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (project / "texts").mkdir()
    (project / "texts" / name).write_text(ENGLISH)
    code, _, log = run("new", "--", f"texts/{name}")
    assert code == 0, log
    assert_stages_run(project, ENGLISH)


@pytest.mark.parametrize("name", ["a ${b} {c}.txt", "tab\there.txt"])
def test_a_name_that_no_parameter_can_hold_is_refused(run: Run, project: Path, name: str) -> None:
    (project / name).write_text(ENGLISH)
    assert_refused(run, project, "expected a path that has only printable characters", name)


def nested(folder: Path) -> list[str]:
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_text(ENGLISH)
    (folder / "sub/c.txt").write_text(GERMAN)
    (folder / "a.txt").write_text(RUSSIAN)
    return [str(folder)]


def several(folder: Path) -> list[str]:
    nested(folder)
    return [str(folder / name) for name in ("a.txt", "b.txt", "sub/c.txt")]


@pytest.mark.parametrize("make", [nested, several])
@pytest.mark.parametrize("separator", ["\n", "\f"])
def test_a_folder_or_several_files(
    run: Run, project: Path, tmp_path: Path, make: Callable[[Path], list[str]], separator: str
) -> None:
    options = ["--documents"] if separator == "\f" else []
    code, _, log = run("new", *make(tmp_path / "books"), *options)
    assert code == 0, log
    params = load_params(project / "params.yaml")
    assert params.download.separator == separator
    assert params.split.document_separator == (None if separator == "\n" else separator)
    assert_stages_run(project, separator.join([RUSSIAN, ENGLISH, GERMAN]))


def test_the_first_document_leaves_others_to_train_on(run: Run, project: Path) -> None:
    (project / "long.txt").write_text(ENGLISH * 9)
    (project / "short.txt").write_text(ENGLISH)
    code, out, log = run("new", "long.txt", "short.txt", "--documents")
    assert (code, out) == (2, "") and "long.txt has " in log and "name another one first" in log
    code, _, log = run("new", "short.txt", "long.txt", "--documents")
    assert code == 0, log
    assert_stages_run(project, "\f".join([ENGLISH, ENGLISH * 9]))


def test_two_dots_in_a_path_make_no_second_corpus(run: Run, project: Path) -> None:
    (project / "more").mkdir()
    (project / "own.txt").write_text(ENGLISH)
    for text in ("own.txt", "more/../own.txt"):
        code, out, log = run("new", text)
        assert code == 0 and out.startswith(f"{project}/own.txt\n"), log
    assert [file.name for file in (project / "conf/corpus").glob("own*")] == ["own.yaml"]
    (project / "deep").mkdir()
    (project / "deep/more").symlink_to(project / "more")
    (project / "deep/own.txt").write_text(GERMAN)
    _, out, _ = run("new", "deep/more/../own.txt")  # which is not deep/own.txt
    assert out.startswith(f"{project}/own.txt\n")


def test_a_file_that_is_named_twice_is_read_once(run: Run, project: Path) -> None:
    (project / "own.txt").write_text(ENGLISH)
    (project / "again.txt").symlink_to("own.txt")
    (project / "more").mkdir()
    (project / "more/other.txt").write_text(GERMAN)
    (project / "more/own.txt").symlink_to("../own.txt")
    for texts, about in ((["own.txt", "again.txt"], f"{project}/own.txt"), (["own.txt", "more"], "2 files")):
        code, out, _ = run("new", *texts)
        assert code == 0 and out.startswith(f"{about}\n"), out
    links = Path(load_params(project / "params.yaml").download.source)
    assert [link.readlink().name for link in sorted(links.iterdir())] == ["own.txt", "other.txt"]
