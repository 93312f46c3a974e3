"""What `charlstm trace` does: search, assemble, show."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError, LineageError, ParamsError, TrackingError
from charlstm.params import load_params
from charlstm.tracking.lineage import Reader
from pipeline.common.paths import Paths, load_paths
from pipeline.common.tracking_store import store
from pipeline.lineage import texts
from pipeline.lineage.search import Found, find, traces_of
from pipeline.lineage.show import lines_of

log = logging.getLogger("charlstm")


MAX_IN_FULL = 3  # for eyes; beyond, a line a training


def trace_document(name: str | None, kind: str | None, text: str | None, max_in_full: int | None) -> dict[str, Any]:
    """All that is known of `name`, or of who wrote `text`: `query`, `traces`, `more`, `places`, `notes`.

    `more` has the names of what is beyond `max_in_full` trainings.

    Raises:
        LineageError: nothing is.
    """
    if text is not None:
        texts.check_length(text)
    paths, notes = load_paths(Path("dvc.yaml")), []
    try:
        reader = open_reader()
    except TrackingError as error:
        reader = None
        notes.append(f"{error}; this is what git and DVC know")
    if text is not None:
        return _of_text(text, reader, paths, notes, max_in_full)
    assert name is not None
    if reader is None and kind == "run":
        raise LineageError(f"{name}: cannot look for runs: {notes[0]}")
    found_kind, found = find(name, kind, reader, paths)
    traces, more = traces_of(found[:max_in_full], reader, paths), _names(found, max_in_full)
    return {"query": {"kind": found_kind, "value": name}, "traces": traces, "more": more, "places": [], "notes": notes}


def open_reader() -> Reader:
    """Of the store that runs of this checkout go to.

    Raises:
        TrackingError: there is none, or it does not answer.
    """
    return Reader(store())


def print_lines(document: dict[str, Any], *, with_files: bool) -> list[str]:
    """A document as lines; with every hash, if it is `with_files`."""
    lines = list(lines_of(document["traces"], document["more"], params_here(), with_files=with_files))
    for place in document["places"]:
        part = f", {place['part']} part" if place["part"] else ""
        lines.append(f"the text stands in {place['file']}, line {place['line']}{part}")
    if document["query"]["kind"] == "text" and not document["places"]:
        lines.append("the text does not stand in the corpus of this checkout")
    return lines


def as_json(document: dict[str, Any]) -> str:
    """A document as `--json` prints it."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def params_here() -> dict[str, str]:
    """The parameters of this checkout, by dotted name; none if they cannot be read."""
    try:
        return {name: str(value) for name, value in load_params(Path("params.yaml")).flat().items()}
    except ParamsError:
        return {}


def _of_text(
    text: str, reader: Reader | None, paths: Paths, notes: list[str], max_in_full: int | None
) -> dict[str, Any]:
    texts.check_length(text)
    places = texts.places_in_corpus(text, paths)
    found = texts.find_text(text, reader) if reader else []
    if not found:
        for file in texts.files_with(text, paths):
            try:
                _, found = find(str(file), "file", reader, paths)
            except CharlstmError:  # a sample that nothing knows of
                notes.append(f"the text is in {file}, which belongs to no known training")
                continue
            break
    if not found and not places and not notes:
        raise LineageError(f"--text: no run wrote {text[:40]!r}, and it stands nowhere in {paths.corpus}")
    traces, more = traces_of(found[:max_in_full], reader, paths), _names(found, max_in_full)
    return {"query": {"kind": "text", "value": text}, "traces": traces, "more": more, "places": places, "notes": notes}


def _names(found: Sequence[Found], max_in_full: int | None) -> list[str]:
    """Of what is not shown in full."""
    rest = found[len(found) if max_in_full is None else max_in_full :]
    return [f"{one.run.run_id}  {one.run.name}  {one.run.status}" if one.run else str(one.commit) for one in rest]
