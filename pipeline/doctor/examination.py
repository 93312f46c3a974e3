"""All checks, in one go: for `charlstm doctor`, and before the processes of a training start.

Checks change nothing. What takes long (DVC's answer, a server) runs beside the others.
"""

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from charlstm.errors import CharlstmError
from charlstm.files.documents import faults_of, load_yaml, parse_yaml, read_json
from charlstm.files.lock import holder_of
from charlstm.files.urls import without_credentials
from charlstm.params import NOTHING, Params, load_params
from charlstm.sections import shown
from charlstm.tracking.client import sqlite_file
from pipeline.doctor import machine, text
from pipeline.doctor.finding import Finding, error, readable, warning
from pipeline.doctor.stores import check_stores
from pipeline.doctor.text import Encoded, read_encoded, source_bytes
from pipeline.dvc.paths import Paths, load_paths
from pipeline.dvc.record import FOLDER, cache_folder, files_below, files_of, read_lock
from pipeline.dvc.unfinished import CHECKOUT
from pipeline.provenance.git import content_at, fault
from pipeline.stage import settings
from pipeline.stage.presets import in_words
from pipeline.stage.project import PARAMS
from pipeline.stage.tracking_store import STATE_FOLDER, project_root, store


class Examination(NamedTuple):
    """Which parameters these are, and what was found."""

    parameters: str  # `corpus tiny-shakespeare, recipe quick · epochs 3; bf16: ...`; empty where they cannot be read
    findings: list[Finding]


def examine(find_cache: Callable[[], Path] = cache_folder) -> Examination:
    """All that can be found out before `dvc repro`, errors first. `find_cache` has the folder of DVC's cache."""
    with ThreadPoolExecutor() as beside:
        cache, tracker = beside.submit(find_cache), beside.submit(lambda: list(readable(check_tracker())))
        shared = beside.submit(lambda: list(readable(check_stores())))
        foreign = beside.submit(lambda: list(readable(check_outputs())))
        params, paths, findings = _read()
        findings += readable(machine.check_threads())
        findings += readable(machine.check_versions())
        if params is not None and paths is not None:
            findings += readable(_check_text_and_training(params, paths))
        findings += readable(machine.check_gpu())
        findings += readable(check_folders(cache.result()))
        findings += tracker.result()
        findings += shared.result() + foreign.result()
        parameters = ""
        if params is not None:
            parameters = in_words(params.values())
            with suppress(ImportError):  # `versions` says so
                parameters += f"; {_precision(params, findings)}"
    return Examination(parameters, _errors_first(findings))


def _precision(params: Params, findings: list[Finding]) -> str:
    from charlstm.training.processes import choose_precision, kind_of_device

    try:
        return "{}: {}".format(*choose_precision(params.train.precision, kind_of_device()))
    except CharlstmError as refusal:
        findings.append(error(str(refusal)))
        return ""


def examine_training() -> list[Finding]:
    """The faults that decide whether a training can start now, on encoded text that DVC has just looked at.

    A mistake that only a later stage would notice is one of them: it is cheaper to mend now.
    """
    params, paths, findings = _read()
    if params is not None and paths is not None:
        findings += (finding for finding in _check_training(params, read_encoded(paths), None) if finding.is_error)
    return _errors_first([*findings, *readable(machine.check_threads())])


def _check_text_and_training(params: Params, paths: Paths) -> Iterator[Finding]:
    encoded = read_encoded(paths) if text.is_up_to_date(params, paths) else None
    yield from readable(text.check_text_source(params, paths))
    yield from _check_training(params, encoded, source_bytes(params, paths))


def _check_training(params: Params, encoded: Encoded | None, num_bytes: int | None) -> list[Finding]:
    checks = (
        check_parameters(params),
        text.check_length(params, encoded),
        text.check_all_prompts(params, encoded),
        machine.check_disk(params, encoded, num_bytes),
    )
    return [finding for check in checks for finding in readable(check)]


def _errors_first(findings: list[Finding]) -> list[Finding]:
    return sorted(dict.fromkeys(findings), key=lambda finding: not finding.is_error)


def _read() -> tuple[Params | None, Paths | None, list[Finding]]:
    """Parameters and paths, and what is wrong with them and with the variables that a user may set."""
    findings = [error(str(fault)) for fault in settings.faults()]
    params, paths = None, None
    try:
        faults = schema_faults()
        findings += faults
        params = None if faults else load_params(PARAMS)
        paths = load_paths()
    except CharlstmError as refusal:
        if error(str(refusal)) not in findings:
            findings.append(error(str(refusal)))
    return params, paths, findings


def schema_faults() -> list[Finding]:
    """Each wrong value, with that of the last commit: what `dvc exp run -S` wrote stays there when it has failed.

    Raises:
        ParamsError: there is no such file, or it is not YAML.
    """
    return [error(f"{PARAMS}: {fault}{_in_last_commit(fault)}") for fault in faults_of(Params, load_yaml(PARAMS))]


def _in_last_commit(fault: str) -> str:
    """`; the last commit has 1`, of the parameter with which the description of a fault begins; empty for none."""
    try:
        document = parse_yaml((content_at(PARAMS) or b"").decode())
        value = reduce(getitem, fault.partition(" ")[0].split("."), document)
    except (ValueError, LookupError, TypeError):
        return ""
    return "" if isinstance(value, dict) else f"; the last commit has {shown(value)}"


def check_parameters(params: Params) -> Iterator[Finding]:
    """Mistakes that the schema allows."""
    if not Path(initial := params.train.initial).exists():
        yield error(
            f"{PARAMS}: train.initial: there is no {initial}: `dvc pull {initial}.dvc` brings the model to begin from; "
            f"{NOTHING} begins from none"
        )
    if (params.train.micro_batch_size or 0) > params.train.batch_size:
        yield warning(
            f"{PARAMS}: train.micro_batch_size {params.train.micro_batch_size} is more than "
            f"train.batch_size {params.train.batch_size} and has no effect"
        )


# The folders that a run writes: the project, DVC's cache and `.charlstm`, and who else trains here now.

WRITTEN = ("Datasets", "artifacts")  # by stages, as `dvc.yaml` has it


def check_folders(cache: Path) -> Iterator[Finding]:
    """The project's own folders, and that of DVC's cache."""
    yield from _check_folder("the project", Path.cwd())
    yield from _check_folder("the state of unfinished trainings", project_root() / STATE_FOLDER)
    yield from _check_folder("DVC's cache", cache)
    if reason := fault():
        yield error(f"git: {reason}")
    if not any((folder / ".dvc").is_dir() for folder in (Path.cwd(), *Path.cwd().parents)):
        yield error(f"dvc: {Path.cwd()} is in no DVC project: `git init` and `dvc init` make it one")
    if set("{}") & set(str(Path.cwd())):
        yield error(f"dvc: {Path.cwd()}: DVC cannot work in a path with curly brackets: rename that folder")
    for folder in map(Path, WRITTEN):
        if not folder.resolve().is_relative_to(Path.cwd().resolve()):
            yield error(f"dvc: {folder} leads to {folder.resolve()}: DVC tracks nothing outside of the checkout")
    rwlock = Path(".dvc/tmp/rwlock")
    try:
        if rwlock.exists():
            read_json(rwlock)
    except ValueError:
        yield error(f"dvc: {rwlock} is damaged, as a DVC that is killed may leave it: remove it")
    if (holder := holder_of(CHECKOUT)) is not None:
        yield error(f"a training in this checkout is under way already, {holder}: wait for it, or stop it")


def check_outputs() -> Iterator[Finding]:
    """Files of the user's own in a stage's output folder, beside all that DVC has recorded of it."""
    lock = read_lock()
    for folder, folder_md5 in (lock.files("outs") if lock else {}).items():
        known = {Path(folder) / name for name in files_of(folder_md5)} if folder_md5.endswith(FOLDER) else set[Path]()
        here = set(files_below(Path(folder)))
        if known and known < here:
            yield warning(
                f"{min(here - known)}: no stage wrote it; DVC removes {folder} before its stage runs: move it"
            )


def _check_folder(what: str, folder: Path) -> Iterator[Finding]:
    """The folder, or the nearest one above that exists, must be one that can be written."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        yield error(f"{what}: {folder}: expected a folder, found something else in its place: {nearest}; move it away")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield error(f"{what}: {folder}: no permission to write in {nearest}")


# Whether MLflow's store can be reached. Training never waits for it, so nothing here is an error.

SECONDS_TO_ANSWER = 2.0
LATER = "training does not wait for it, and `charlstm sync` sends later what it missed"
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_tracker() -> Iterator[Finding]:
    """Check the store that the stages will use."""
    uri = store().uri
    scheme, file = urlsplit(uri).scheme.partition("+")[0].lower(), sqlite_file(uri)
    reason = _file_fault(file) if file else _server_fault(uri, scheme) if scheme in PORTS else ""
    if reason:
        yield warning(f"tracker: {without_credentials(uri)}: {reason}; {LATER}")


def _file_fault(file: Path) -> str:
    """The fault of a database in a file; empty if it has none."""
    nearest = next(path for path in (file.absolute(), *file.absolute().parents) if path.exists())
    if not os.access(nearest, os.W_OK):
        return f"no permission to write {nearest}"
    if file.exists():
        if not file.is_file():  # SQLite would wait for a FIFO
            return "expected a database, found no regular file"
        try:
            read_only = f"{file.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(read_only, uri=True, timeout=SECONDS_TO_ANSWER)) as database:
                database.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.Error as failure:
            return f"the database cannot be read ({failure}): move it away, and the next run makes another"
    return ""


def _server_fault(uri: str, scheme: str) -> str:
    """Why a server accepts no connection; empty if it does."""
    try:
        address = urlsplit(uri)
        host, port = address.hostname or "localhost", address.port or PORTS[scheme]
        with socket.create_connection((host, port), timeout=SECONDS_TO_ANSWER):
            return ""
    except (OSError, ValueError) as fault:
        return getattr(fault, "strerror", None) or str(fault)
