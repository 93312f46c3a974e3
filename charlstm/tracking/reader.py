"""Reads runs and their artifacts out of an MLflow store, and changes nothing there.

Artifacts on a disk are opened where they lie, also in a checkout that was moved or copied since: then the run still
names the old folder, and the file is below the store's own.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import Store, connect, reason_of, sqlite_file

RUNS_PER_PAGE = 1000


class TrackedRun(NamedTuple):
    """A run as the store has it."""

    run_id: str
    name: str
    status: str
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
        if (database := sqlite_file(store.uri)) and not database.exists():
            raise TrackingError(f"{database}: there is no such MLflow database: no run was made")
        self._store = store
        with self._naming():
            self._client = connect(store)
            self._experiments = [one.experiment_id for one in self._client.search_experiments()]

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
        """Runs whose tag begins with `prefix`, of hexadecimal digits; the newest first."""
        return list(self._search(f"tags.`{tag}` LIKE '{prefix}%'"))

    def all(self) -> Iterator[TrackedRun]:
        """Every run, the newest first."""
        yield from self._search("")

    def text(self, run: TrackedRun, path: str) -> str | None:
        """The artifact `path` as text; None if the run has none."""
        if folder := self._folder(run):
            file = folder / path
            return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        folder_of, _, name = path.rpartition("/")
        if name not in [one.path.rpartition("/")[2] for one in self._list(run, folder_of or None)]:
            return None
        return self._download(run, path)

    def artifacts(self, run: TrackedRun, suffixes: tuple[str, ...], max_bytes: int) -> Iterator[str]:
        """The paths of all artifacts with one of these suffixes that are no larger."""
        if folder := self._folder(run):
            for file in sorted(folder.rglob("*")):
                if file.suffix in suffixes and file.is_file() and file.stat().st_size <= max_bytes:
                    yield file.relative_to(folder).as_posix()
            return
        pending: list[str | None] = [None]
        while pending:
            for one in self._list(run, pending.pop()):
                if one.is_dir:
                    pending.append(one.path)
                elif one.path.endswith(suffixes) and (one.file_size or 0) <= max_bytes:
                    yield one.path

    def _folder(self, run: TrackedRun) -> Path | None:
        """Where the run's artifacts lie on this machine; None if a server has them."""
        parts = urlsplit(run.artifact_uri)
        if parts.scheme not in ("", "file"):
            return None
        named = Path(unquote(parts.path))
        if named.is_dir() or self._store.artifact_root is None:
            return named
        root = Path(unquote(urlsplit(self._store.artifact_root).path))
        below = named.as_posix().rpartition(f"/{root.name}/")[2]
        return root / below.lstrip("/")

    def _list(self, run: TrackedRun, folder: str | None) -> list[Any]:
        with self._naming():
            return list(self._client.list_artifacts(run.run_id, folder))

    def _download(self, run: TrackedRun, path: str) -> str:
        with self._naming(), tempfile.TemporaryDirectory() as folder:
            file = Path(self._client.download_artifacts(run.run_id, path, folder))
            return file.read_text(encoding="utf-8", errors="replace")

    def _search(self, condition: str) -> Iterator[TrackedRun]:
        token = None
        while True:
            with self._naming():
                page = self._client.search_runs(
                    self._experiments, condition, max_results=RUNS_PER_PAGE, page_token=token
                )
            yield from map(_tracked, page)
            token = page.token
            if not token:
                return

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Whatever a server, a driver or a disk can raise becomes one line without the password of a URL."""
        try:
            yield
        except Exception as error:
            where = without_credentials(self._store.uri)
            raise TrackingError(f"MLflow at {where}: {reason_of(error, self._store)[:300]}") from None


def _tracked(run: Any) -> TrackedRun:  # noqa: ANN401  # mlflow.entities.Run
    info, data = run.info, run.data
    tags, name = dict(data.tags), info.run_name or ""
    return TrackedRun(info.run_id, name, info.status, tags, dict(data.params), dict(data.metrics), info.artifact_uri)
