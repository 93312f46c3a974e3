"""Reads runs and their artifacts out of an MLflow store, which has a time to answer in."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from charlstm.errors import TrackingError
from charlstm.files.deadline import answer_within
from charlstm.tracking.client import (
    CHANGED,
    MAX_EXPERIMENTS,
    Store,
    check_exists,
    connect,
    describe,
    open_artifacts,
)

RUNS_PER_PAGE = 1000
SECONDS_FOR_AN_ANSWER, SECONDS_FOR_FILES = 60.0, 600.0
Value = TypeVar("Value")


def ask(store: Store, call: Callable[[], Value], seconds: float = SECONDS_FOR_AN_ANSWER) -> Value:
    """What `call` returns, which asks the store.

    Raises:
        TrackingError: for whatever a server, a driver or a disk can raise, as `describe` has it, or for no answer.
    """
    try:
        return answer_within(seconds, call)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(describe(error, store)) from None


class TrackedRun(NamedTuple):
    """A run as the store has it."""

    run_id: str
    name: str
    status: str
    start_ms: int  # since 1970
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifact_uri: str


class Reader:
    """All runs of a store, those of every experiment.

    Raises:
        TrackingError: here and in each method: the store does not answer, or there is none.
    """

    def __init__(self, store: Store) -> None:
        check_exists(store)
        self._store, self._client = store, ask(store, lambda: connect(store))
        found = ask(store, lambda: self._client.search_experiments(max_results=MAX_EXPERIMENTS))
        self._experiments = [experiment.experiment_id for experiment in found]

    def by_id(self, prefix: str) -> list[TrackedRun]:
        """Runs whose id begins with `prefix`, of hexadecimal digits."""
        return list(self._search(f"attributes.run_id LIKE '{prefix}%'"))

    def by_name(self, name: str) -> list[TrackedRun]:
        """Runs of that name, the newest first."""
        quote = '"' if "'" in name else "'"  # MLflow's filters cannot escape one
        if quote in name:
            return [run for run in self.all() if run.name == name]
        return list(self._search(f"attributes.run_name = {quote}{name}{quote}"))

    def by_tag(self, tag: str, value: str) -> list[TrackedRun]:
        """Runs with that tag, the newest first; `value` is a hash or the like, without quotes."""
        return list(self._search(f"tags.`{tag}` = '{value}'"))

    def by_tag_prefix(self, tag: str, prefix: str) -> list[TrackedRun]:
        """Runs whose tag begins with `prefix`, of hexadecimal digits; in the same order."""
        return list(self._search(f"tags.`{tag}` LIKE '{prefix}%'"))

    def all(self) -> Iterator[TrackedRun]:
        """Every run, the newest first."""
        yield from self._search("")

    def trainings(self) -> list[TrackedRun]:
        """Runs that trained a model, the newest first."""
        return [run for run in self.all() if run.params]

    def text(self, run: TrackedRun, path: str) -> str | None:
        """The artifact `path` as text; None if the run has none."""
        return ask(self._store, lambda: self._text(run, path))

    def _text(self, run: TrackedRun, path: str) -> str | None:
        artifacts = open_artifacts(self._store, run.artifact_uri)
        if path not in [info.path for info in artifacts.list_artifacts(path.rpartition("/")[0])]:
            return None
        with tempfile.TemporaryDirectory() as target:
            return Path(artifacts.download_artifacts(path, target)).read_bytes().decode(errors="replace")

    def _search(self, condition: str) -> Iterator[TrackedRun]:
        token = None
        while True:
            search = partial(self._client.search_runs, max_results=RUNS_PER_PAGE, page_token=token)
            page = ask(self._store, partial(search, self._experiments, condition))
            yield from map(_tracked, page)
            token = page.token
            if not token:
                return


def _tracked(run: Any) -> TrackedRun:  # noqa: ANN401  # mlflow.entities.Run
    info, data = run.info, run.data
    tags, name = dict(data.tags), info.run_name or ""
    newer = {tag.removeprefix(CHANGED): value for tag, value in tags.items() if tag.startswith(CHANGED)}
    params = dict(data.params) | newer  # of a stage that ran again: MLflow keeps the first value
    metrics = dict(data.metrics)
    return TrackedRun(info.run_id, name, info.status, info.start_time, tags, params, metrics, info.artifact_uri)
