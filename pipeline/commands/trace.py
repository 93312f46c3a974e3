"""`charlstm trace`: where does this come from?

A trace is the document of one training, see `pipeline.lineage.document`. As lines of text it has one fact a line, so
that they can be searched.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import typer

from charlstm.errors import CharlstmError, TrackingError
from charlstm.model.shape import WEIGHTS
from charlstm.sections import shown
from charlstm.text.download import FALLBACKS
from charlstm.tracking.reader import Reader, TrackedRun
from pipeline.dvc.paths import load_paths
from pipeline.lineage.document import Trace, is_same_value, of_commit, of_run
from pipeline.lineage.search import MIN_ID_PREFIX, find, open_reader
from pipeline.provenance.summary import flat_in, losses_of
from pipeline.stage.project import PARAMS, from_here
from pipeline.stage.terminal import printable
from pipeline.stage.tracking_store import store
from pipeline.use import to_the_end_of_a_pipe

MAX_IN_FULL = 3  # for eyes; beyond, a line a training
WIDTH = 11
ROW = ("id", "began", "name", "status")  # of a list
OF_TEXT = ("download.", "evaluate.published")  # long, and of another text all different
OF_MACHINE = ("processor", "gpu", "threads", "processes", "python", "torch")
Kind = Literal["run", "file", "rev"]
UNKNOWN = "not recorded"


def trace(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="A run (its id, the first 8 digits of it or more, its name, or its model's hash); a file or folder, "
            "also one that was moved here; or a commit, branch, tag or DVC experiment. Tried in this order. "
            "Without it, all trainings are listed.",
            show_default=False,
            callback=from_here,
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--as", help="Take the name for this and nothing else.")] = None,
    with_files: Annotated[
        bool, typer.Option("--files", help="And the hashes of all files, all versions and hardware.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, as one JSON object.")] = False,
) -> int:
    """List all trainings, or trace one to its bytes.

    It is found by a run, a revision or a file. Shown are recipe and changes, losses, data, the commit, the DVC
    experiment, the machine, how to keep it and how to make it again. With `--files`, also all hashes from the corpus to
    the samples. The tie is content: it holds for copies, after `dvc pull`, and for any MLflow server that has the run.
    """
    if name is None:
        if kind or with_files:
            raise CharlstmError(
                "trace: --as and --files need a RUN, FILE or REV; without any, all trainings are listed"
            )
        return _list_all(as_json=as_json)
    document = _document(name, kind, sys.maxsize if as_json else MAX_IN_FULL)
    for note in document["notes"]:
        typer.echo(f"note: {note}", err=True)
    with to_the_end_of_a_pipe():
        if as_json:
            typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            for line in _lines(document, with_files=with_files):
                typer.echo(printable(line, sys.stdout.encoding))
    return 0


def _list_all(*, as_json: bool) -> int:
    """A line for each training, the newest first: its id, which other commands take, and what `_row_of` has."""
    runs = Reader(store()).trainings()
    if not runs:
        raise TrackingError("no training is in MLflow yet; `dvc repro` makes the first")
    with to_the_end_of_a_pipe():
        if as_json:
            trainings = [dict(zip(ROW, _row_of(run), strict=True)) for run in runs]
            typer.echo(json.dumps({"trainings": trainings}, indent=2, ensure_ascii=False))
        else:
            for run in runs:
                typer.echo(printable("  ".join(_row_of(run)), sys.stdout.encoding))
    return 0


def _row_of(run: TrackedRun) -> tuple[str, ...]:
    """As `ROW` names it."""
    return run.run_id, time.strftime("%Y-%m-%d %H:%M", time.localtime(run.start_ms / 1000)), run.name, run.status


def _document(name: str, kind: str | None, max_in_full: int) -> dict[str, Any]:
    """All that is known of `name`; `more` has the names of what is beyond `max_in_full`."""
    paths, (reader, notes) = load_paths(), open_reader()
    kind, matches = find(name, kind, reader, paths, notes)
    traces = [
        of_run(reader, match.run, paths, match.found_by)
        if match.run and reader
        else of_commit(match.commit or "", paths, match.found_by)
        for match in matches[:max_in_full]
    ]
    return {
        "query": {"kind": kind, "value": name},
        "traces": [trace for trace in traces if trace],  # a commit may have no training
        "more": ["  ".join(_row_of(match.run)) if match.run else match.commit for match in matches[max_in_full:]],
        "notes": notes,
    }


# As lines.


def _lines(document: dict[str, Any], *, with_files: bool) -> Iterator[str]:
    here = flat_in(PARAMS.read_text(encoding="utf-8"))
    for index, trace in enumerate(document["traces"]):
        if index:
            yield ""
        yield from _in_short(trace, here)
        if with_files:
            yield from _hashes(trace)
    if document["more"]:
        yield ""
        yield f"and {len(document['more'])} more; `charlstm trace` with one of these shows it in full:"
        yield from (f"  {name}" for name in document["more"])


def _in_short(trace: Trace, here: Mapping[str, str]) -> Iterator[str]:
    run, code, dvc = trace["run"], trace["code"], trace["dvc"]
    named = f"{run['id']}  {run['name']}  {run['status']}" if run else "none in MLflow; this is what git and DVC know"
    yield _line("run", named)
    yield _line("found by", trace["found_by"])
    if run and run["made_from"] == "files":
        yield _line("", "rebuilt from files by a later stage, whose commit this is: no file says where it was trained")
    yield _line("recipe", trace["recipe"])
    yield _line("parameters", *_params(trace["params"], here))
    yield _line("losses", *(f"{protocol} {loss:.4f}" for protocol, loss in losses_of(trace["losses"]).items()))
    yield _line("data", *_data(trace))
    if initial := _initial(trace):
        yield _line("begun from", f"model {initial}; charlstm trace {initial[:12]} says where that comes from")
    yield from _code(code)
    for revision in dvc["revisions"]:
        yield _line("in git", _revision(revision))
    if dvc["experiment"]:
        gone = "" if dvc["experiment_is_here"] else " (not in git here: failed, removed, or elsewhere)"
        yield _line("experiment", f"{dvc['experiment']}{gone}, on the baseline {dvc['baseline'] or 'unknown'}")
    machine = {**trace["hardware"], **trace["versions"]}
    yield _line("machine", *(f"{name} {machine[name]}" for name in OF_MACHINE if name in machine))
    yield _line("keep it", _keep(dvc))
    if run is None:
        yield _line(
            "again", "dvc pull or dvc repro; charlstm sync --files, which makes its run; charlstm reproduce HEAD"
        )
    elif run["can_be_reproduced"]:
        yield _line("again", f"charlstm reproduce {run['id'][:MIN_ID_PREFIX]}")


def _line(name: str, *parts: str | None) -> str:
    return f"{name:{WIDTH}}{', '.join(filter(None, parts)) or UNKNOWN}"


def _params(params: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    if not here:
        return [str(len(params)), "params.yaml here cannot be read"] if params else []
    is_other_text = here.get("download.name") != params.get("download.name")
    other = [
        f"{name} {shown(value)} ({shown(here[name]) if name in here else 'not'} here)"
        for name, value in params.items()
        if not is_same_value(here.get(name), value)
        and not (is_other_text and name.startswith(OF_TEXT) and name != "download.name")
    ]
    compared = f"other than here: {', '.join(other)}" if other else "as in params.yaml here"
    return [str(len(params)), compared] if params else []


def _data(trace: Trace) -> list[str | None]:
    digest = next((row["sha256"] for link in trace["chain"][:1] for row in link["files"] if row["sha256"]), None)
    params = trace["params"]
    source = params.get("download.source")
    fallback = FALLBACKS.get(params.get("download.sha256", ""))
    if fallback and digest == fallback.sha256:
        source = f"the FALLBACK {fallback.requirement}"
    return [params.get("download.name"), source and f"from {source}", digest and f"SHA-256 {digest[:12]}"]


def _initial(trace: Trace) -> str | None:
    """The SHA-256 of the model that the training began from; None for none."""
    files = [row for link in trace["chain"] if link["link"] == "initial" for row in link["files"]]
    return next((row["sha256"] for row in files if row["path"].endswith(WEIGHTS)), None)


def _code(code: Mapping[str, Any]) -> Iterator[str]:
    if code["commit"] is None:
        yield _line("code", "no commit recorded: trained outside a git repository")
        return
    changed = {"yes": ", with uncommitted changes", "no": ", unchanged", "unknown": ", perhaps changed"}
    here = "" if code["is_here"] else " (not in this repository: git fetch)"
    yield _line("code", f"commit {code['commit']}{changed.get(code['dirty'], '')}{here}")


def _revision(revision: Mapping[str, Any]) -> str:
    names = ([f"experiment {revision['experiment']}"] if revision["experiment"] else []) + revision["names"]
    baseline = f" on {revision['baseline']}" if revision["baseline"] else ""
    named = f" ({', '.join(names)}{baseline})" if names else ""
    return f"dvc.lock of {revision['commit']}{named} names these outputs: {revision['subject']}"


def _keep(dvc: Mapping[str, Any]) -> str:
    """Advice on what makes a result last: a commit for what is small, a push for the rest."""
    if kept := [revision for revision in dvc["revisions"] if not revision["experiment"] or revision["names"]]:
        return f"commit {kept[0]['commit'][:12]} has it; dvc push shares its files"
    if dvc["experiment"] and dvc["experiment_is_here"]:
        name = dvc["experiment"]
        return f'dvc exp apply {name} && git add conf && git commit -am "{name}"; dvc push shares its files'
    return (
        "no commit names its files: if it is the model that is here, git add conf && git commit -a; else make it again"
    )


def _hashes(trace: Trace) -> Iterator[str]:
    """Hashes, and all that is known of the environment."""
    for name in ("versions", "hardware"):
        yield _line(name, *(f"{key} {value}" for key, value in trace[name].items()))
    for stage, other in trace["stages"].items():
        if other:
            yield _line(stage, "ran elsewhere: " + ", ".join(f"{name} {value}" for name, value in other.items()))
    yield _line("DVC", f"the training's name is {trace['dvc']['train_md5'] or UNKNOWN}")
    yield _row("chain", "SHA-256", "MD5 (DVC)", "file")
    for link in trace["chain"]:
        if link["dvc_folder_md5"]:
            yield _row(link["link"], None, link["dvc_folder_md5"], "(the folder)")
        for file in link["files"]:
            yield _row(link["link"], file["sha256"], file["dvc_md5"], file["path"])
        if not link["files"] and not link["dvc_folder_md5"]:
            yield _line(link["link"])


def _row(link: str, sha256: str | None, md5: str | None, path: str) -> str:
    return f"{link:{WIDTH}}{sha256 or '-':64}  {md5 or '-':36}  {path}"
