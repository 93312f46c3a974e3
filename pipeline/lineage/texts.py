"""Which run wrote a piece of text, and where it stands in the text that was trained on."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from charlstm.errors import LineageError
from charlstm.tracking.lineage import Reader, TrackedRun
from pipeline.common.paths import Paths
from pipeline.common.provenance import LINEAGE
from pipeline.lineage.search import NUM_THREADS, Found

MIN_CHARS = 8
MAX_BYTES = 5_000_000  # of an artifact that is searched
MAX_PLACES = 5
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

    `part` is "training", "validation" (or what follows the training part), or null without the split.
    """
    try:
        corpus = paths.corpus.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    train = paths.split / "train.txt"
    num_train = len(train.read_text(encoding="utf-8", errors="replace")) if train.is_file() else None
    found: list[Place] = []
    start = corpus.find(text)
    while start >= 0 and len(found) < MAX_PLACES:
        part = None if num_train is None else "training" if start + len(text) <= num_train else "validation"
        found.append({"file": str(paths.corpus), "line": corpus.count("\n", 0, start) + 1, "part": part})
        start = corpus.find(text, start + 1)
    return found


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
