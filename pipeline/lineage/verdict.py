"""Record and repetition side by side, file by file, and why they may differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.storage.files import sha256
from pipeline.common.chain import LINKS, link_of
from pipeline.common.paths import Paths

IDENTICAL, DIFFERENT, MISSING = "identical", "different", "missing"
DECISIVE = ("processor", "instructions", "threads", "gpu")  # of the hardware: what rounds, and in which order


class Row(NamedTuple):
    """One file: what it is, and its SHA-256 in the record and now."""

    link: str
    path: str
    recorded: str
    found: str | None

    @property
    def result(self) -> str:
        """In one word."""
        return MISSING if self.found is None else IDENTICAL if self.found == self.recorded else DIFFERENT


def compare(files: Mapping[str, str], folder: Path, paths: Paths) -> list[Row]:
    """Each file of the record (path -> SHA-256) beside that of `folder`, in the order of the chain."""
    rows = [
        Row(link, path, recorded, sha256(folder / path) if (folder / path).is_file() else None)
        for path, recorded in sorted(files.items())
        if (link := link_of(path, paths))
    ]
    return sorted(rows, key=lambda row: LINKS.index(row.link))


def first_difference(rows: Sequence[Row]) -> Row | None:
    """The first file of the chain that is not as recorded."""
    return next((row for row in rows if row.result != IDENTICAL), None)


def lines_of(rows: Sequence[Row]) -> list[str]:
    """A table: a file a line."""
    return [f"{row.result:10} {row.link:8} {row.recorded}  {row.path}" + _now(row) for row in rows]


def likely_cause(first: Row, recorded: Mapping[str, str], here: Mapping[str, str], source: Path | None) -> str:
    """Why `first` differs, as far as the tags of both environments tell."""
    if first.link == "corpus":
        where = f"{source}" if source else "its source"
        return f"the corpus no longer has these bytes: {where} was edited or replaced since"
    if not any(name.startswith("hardware.") for name in recorded):
        return "unknown: the record does not say on what it was trained (it was rebuilt from files)"
    names = [name for name in recorded if name.startswith("versions.")] + [f"hardware.{name}" for name in DECISIVE]
    other = [
        f"{name.partition('.')[2]} {recorded.get(name, 'none')} (here {here.get(name, 'none')})"
        for name in names
        if recorded.get(name) != here.get(name)
    ]
    if other:
        return ", ".join(other)
    if first.link in ("corpus", "split", "encoded", "soft_text"):
        return "processor and versions are the same: the code before training is another than the record says"
    return (
        "processor, threads and versions are the same: kernels that do not repeat themselves (GPU, several processes), "
        "or an output that was changed by hand"
    )


def _now(row: Row) -> str:
    return f"  now {row.found}" if row.result == DIFFERENT else ""
