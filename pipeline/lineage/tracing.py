"""What `charlstm trace` does: search, assemble, show."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError, LineageError, ParamsError, TrackingError
from charlstm.files.pieces import find_all, read_pieces
from charlstm.params import load_params
from charlstm.tracking.reader import Reader, TrackedRun
from pipeline.dvc.paths import Paths, load_paths
from pipeline.lineage.search import NUM_THREADS, Found, find, traces_of
from pipeline.lineage.traces import Trace
from pipeline.provenance.provenance import LINEAGE
from pipeline.stage.tracking_store import store

# Which run wrote a piece of text, and where it stands in the text that was trained on.

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


log = logging.getLogger("charlstm")

# A trace as lines of text: one fact a line, so that they can be searched.

WIDTH = 11
MIN_ID_PREFIX = 8  # of a run's id, to be typed
SHOWN = ("python", "torch")  # of the versions
NOTHING = "-"


def lines_of(
    traces: Sequence[Trace], more: Sequence[str], here: Mapping[str, str], *, with_files: bool
) -> Iterator[str]:
    """All traces, and the names of `more`. `here`: the parameters of this checkout, to name those that differ."""
    for index, trace in enumerate(traces):
        yield from [""] * (index > 0)
        yield from _in_short(trace, here)
        if with_files:
            yield from _files(trace)
    if more:
        yield ""
        yield f"and {len(more)} more; `charlstm trace` with one of these shows it in full:"
        yield from (f"  {name}" for name in more)


def _in_short(trace: Trace, here: Mapping[str, str]) -> Iterator[str]:
    yield _line("run", _name(trace) if trace["run"] else "none in MLflow; this is what git and DVC know")
    yield _line("found by", trace["found_by"])
    if trace["run"] and trace["run"]["made_from"] == "files":
        yield _line("", "rebuilt from files by a later stage, whose commit this is: no file says where it was trained")
    yield _line("recipe", trace["recipe"] or "not recorded")
    yield _line("parameters", _params(trace["params"], here))
    yield _line("losses", _losses(trace["losses"]))
    yield _line("data", _data(trace))
    yield _line("code", _code(trace["code"]))
    yield from (_line("", change) for change in _changes(trace["code"]))
    yield from (_line("in git", revision) for revision in _revisions(trace["dvc"]))
    if trace["dvc"]["experiment"]:
        baseline = trace["dvc"]["baseline"] or "unknown"
        gone = "" if trace["dvc"]["experiment_is_here"] else " (not in git here: failed, removed, or elsewhere)"
        yield _line("experiment", f"{trace['dvc']['experiment']}{gone}, on the baseline {baseline}")
    yield _line("machine", _machine(trace))
    yield _line("keep it", _keep(trace["dvc"]))
    if trace["run"] is None:
        yield _line("again", "charlstm sync --files, which makes its run from the files; then charlstm reproduce HEAD")
    elif trace["run"]["status"] == "FINISHED":
        yield _line("again", f"charlstm reproduce {trace['run']['id'][:MIN_ID_PREFIX]}")


def _files(trace: Trace) -> Iterator[str]:
    """Hashes, and all that is known of the environment."""
    yield _line("versions", ", ".join(f"{name} {value}" for name, value in trace["versions"].items()) or "not recorded")
    yield _line("hardware", ", ".join(f"{name} {value}" for name, value in trace["hardware"].items()) or "not recorded")
    for stage, other in trace["stages"].items():
        if other:
            yield _line(stage, "ran elsewhere: " + ", ".join(f"{name} {value}" for name, value in other.items()))
    yield _line("DVC", f"the training's name is {trace['dvc']['train_md5'] or 'not recorded'}")
    yield f"{'chain':{WIDTH}}{'SHA-256':64}  {'MD5 (DVC)':36}  file"
    yield from _chain(trace["chain"])


def _data(trace: Trace) -> str:
    digest = next((row["sha256"] for link in trace["chain"][:1] for row in link["files"] if row["sha256"]), None)
    source = trace["params"].get("download.source")
    parts = [trace["params"].get("download.name"), source and f"from {source}", digest and f"SHA-256 {digest[:12]}"]
    return ", ".join(part for part in parts if part) or "not recorded"


def _machine(trace: Trace) -> str:
    shown = [trace["hardware"].get("processor"), trace["hardware"].get("gpu")]
    threads, versions = trace["hardware"].get("threads"), trace["versions"]
    processes = trace["hardware"].get("processes")
    shown += [threads and f"{threads} thread{'' if threads == '1' else 's'}"]
    shown += [
        f"{processes} processes" if processes else None,
        *(f"{name} {versions[name]}" for name in SHOWN if name in versions),
    ]
    return ", ".join(part for part in shown if part) or "not recorded"


def _keep(dvc: Mapping[str, Any]) -> str:
    """What makes it last: a commit for what is small, a push for the rest."""
    if kept := [one for one in dvc["revisions"] if not one["experiment"] or one["names"]]:
        return f"commit {kept[0]['commit'][:12]} has it; dvc push shares its files"
    if dvc["experiment"] and dvc["experiment_is_here"]:
        name = dvc["experiment"]
        return f'dvc exp apply {name} && git add conf && git commit -am "{name}"; dvc push shares its files'
    return (
        "no commit names its files: if it is the model that is here, git add conf && git commit -a; else make it again"
    )


def _chain(chain: list[dict[str, Any]]) -> Iterator[str]:
    for link in chain:
        if link["dvc_folder_md5"]:
            yield _file(link["link"], None, link["dvc_folder_md5"], "(the folder)")
        for row in link["files"]:
            yield _file(link["link"], row["sha256"], row["dvc_md5"], row["path"])
        if not link["files"] and not link["dvc_folder_md5"]:
            yield _line(link["link"], "not recorded")


def _file(link: str, sha256: str | None, md5: str | None, path: str) -> str:
    return f"{link:{WIDTH}}{sha256 or NOTHING:64}  {md5 or NOTHING:36}  {path}"


def _line(name: str, text: str) -> str:
    return f"{name:{WIDTH}}{text}".rstrip()


def _name(trace: Trace) -> str:
    if trace["run"] is None:
        return str(trace["code"]["commit"])
    run = trace["run"]
    return f"{run['id']}  {run['name']}  {run['status']}"


def _code(code: Mapping[str, Any]) -> str:
    if code["commit"] is None:
        return "no commit recorded: trained outside a git repository"
    words = {"yes": ", changed", "no": ", unchanged", "unknown": ", git could not say whether changed"}
    here = "" if code["is_here"] else " (not in this repository: git fetch)"
    return f"commit {code['commit']}{words.get(code['dirty'], '')}{here}"


def _changes(code: Mapping[str, Any]) -> list[str]:
    if code["changes"]:
        return [f"the commit never had this code as it was: what was changed is the run's artifact {code['changes']}"]
    if code["dirty"] == "yes":
        return ["the commit never had this code as it was, and what was changed is not recorded"]
    return []


def _revisions(dvc: Mapping[str, Any]) -> Iterator[str]:
    for one in dvc["revisions"]:
        names = ([f"experiment {one['experiment']}"] if one["experiment"] else []) + one["names"]
        baseline = f" on {one['baseline']}" if one["baseline"] else ""
        named = f" ({', '.join(names)}{baseline})" if names else ""
        yield f"dvc.lock of {one['commit']}{named} names these outputs: {one['subject']}"


def _params(params: Mapping[str, str], here: Mapping[str, str]) -> str:
    if not params:
        return "not recorded"
    other = [
        f"{name} {value!r} (here {here[name]!r})" for name, value in params.items() if here.get(name, value) != value
    ]
    other += [f"{name} {value} (not here)" for name, value in params.items() if name not in here] if here else []
    return f"{len(params)}; " + (f"other than here: {', '.join(other)}" if other else "as in params.yaml here")


def _losses(losses: Mapping[str, float]) -> str:
    """By protocol; of a training that was not evaluated, its own."""
    shown = {name: value for name, value in losses.items() if name.endswith(("nats_per_char", "val_loss"))}
    measured = {name: value for name, value in shown.items() if not name.startswith(("train/", "validation/"))}
    pairs = (measured or shown).items()
    return ", ".join(f"{name.removesuffix('/nats_per_char')} {value:.4f}" for name, value in pairs) or "not recorded"


# Search, and assemble.

MAX_IN_FULL = 3  # for eyes; beyond, a line a training


def trace_document(name: str | None, kind: str | None, text: str | None, max_in_full: int | None) -> dict[str, Any]:
    """All that is known of `name`, or of who wrote `text`: `query`, `traces`, `more`, `places`, `notes`.

    `more` has the names of what is beyond `max_in_full` trainings.

    Raises:
        LineageError: nothing is.
    """
    if text is not None:
        check_length(text)
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
    check_length(text)
    places = places_in_corpus(text, paths)
    found = find_text(text, reader) if reader else []
    if not found:
        for file in files_with(text, paths):
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
