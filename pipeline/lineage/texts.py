"""Which run wrote a piece of text, and where it stands in the text that was trained on."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from charlstm.errors import LineageError
from charlstm.files.pieces import find_all, read_pieces
from charlstm.tracking.reader import Reader, TrackedRun
from pipeline.dvc.paths import Paths
from pipeline.lineage.search import NUM_THREADS, Found
from pipeline.provenance.provenance import LINEAGE

MIN_CHARS = 8
MAX_BYTES = 5_000_000  # of an artifact that is searched
MAX_PLACES = 5
PARTS = {"training": "train", "validation": "val", "test": "test"}
Place = dict[str, Any]


def find_text(text: str, reader: Reader) -> list[Found]:
    """The runs with `text` in one of their tables or texts, the newest first.

    Raises:
        LineageError: `text` is too short to belong to anyone.
        TrackingError: the store does not answer any more.
    """
    check_length(text)
    runs = list(reader.all())
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        places = pool.map(lambda run: next(_artifacts_with(text, run, reader), None), runs)
        return [
            Found(run, None, f"the text, in the artifact {path}")
            for run, path in zip(runs, places, strict=True)
            if path
        ]


def check_length(text: str) -> None:
    """Raise `LineageError` for a text that is too short to belong to anyone."""
    if len(text.strip()) < MIN_CHARS:
        raise LineageError(
            f"--text: expected at least {MIN_CHARS} characters, got {text!r}: anybody may have written it"
        )


def places_in_corpus(text: str, paths: Paths) -> list[Place]:
    """Where `text` stands in this checkout's corpus, at most `MAX_PLACES` times: file, line from 1, part.

    `part` is "training", "validation" or "test", that of the last character, or null without the split.
    The corpus is read in pieces: it may be larger than the memory.
    """
    sought, found = text.encode("utf-8", "surrogatepass"), list[Place]()
    line, counted = 1, 0  # the line of the byte at `counted`
    try:
        for start in islice(find_all(paths.corpus, sought), MAX_PLACES):
            line += sum(piece.count(b"\n") for piece in read_pieces(paths.corpus, counted, start))
            counted = start
            part = _part_of(start + len(sought), paths)
            found.append({"file": str(paths.corpus), "line": line, "part": part})
    except OSError:
        return []
    return found


def _part_of(end: int, paths: Paths) -> str | None:
    """The part that has the byte before `end`."""
    files = {name: paths.split / f"{part}.txt" for name, part in PARTS.items()}
    present = {name: file.stat().st_size for name, file in files.items() if file.is_file()}
    if "training" not in present:
        return None
    ends = dict(zip(present, accumulate(present.values()), strict=True))
    return next((name for name, end_of_part in ends.items() if end <= end_of_part), "validation")


def files_with(text: str, paths: Paths) -> Iterator[Path]:
    """Files of this checkout that hold `text`: its samples."""
    for file in sorted(paths.samples.glob("*.txt")):
        if text in file.read_text(encoding="utf-8", errors="replace"):
            yield file


def _artifacts_with(text: str, run: TrackedRun, reader: Reader) -> Iterator[str]:
    for path in reader.artifacts(run, (".txt", ".json"), MAX_BYTES):
        if path.startswith(f"{LINEAGE}/"):
            continue
        content = reader.text(run, path) or ""
        if text in content or (path.endswith(".json") and any(text in one for one in _strings(content))):
            yield path


def _strings(content: str) -> Iterator[str]:
    """All strings of a JSON document."""
    try:
        pending = [json.loads(content)]
    except (ValueError, RecursionError):
        return
    while pending:
        match pending.pop():
            case str() as one:
                yield one
            case list() as many:
                pending += many
            case dict() as many:
                pending += many.values()
