"""Read-only access to the runs of an MLflow store."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from charlstm.tracking.client import MAX_RESULTS, Store, ask, check_exists, connect


class TrackedRun(NamedTuple):
    """An MLflow run."""

    run_id: str
    name: str
    status: str
    start_ms: int  # milliseconds since 1970
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Reader:
    """A reader of the runs in all experiments of a store. Searches return the newest run first.

    Raises:
        TrackingError: from every method, if the store is missing or does not answer.
    """

    def __init__(self, store: Store) -> None:
        check_exists(store)
        self._store = store
        self._client = ask(store, lambda: connect(store))
        found = ask(store, lambda: self._client.search_experiments(max_results=MAX_RESULTS))
        self._experiments = [experiment.experiment_id for experiment in found]

    def by_hash(self, prefix: str, tag: str) -> list[TrackedRun]:
        """Return the runs whose id starts with `prefix` or, if there are none, whose `tag` does."""
        by_id = self._search(f"attributes.run_id LIKE '{prefix}%'")
        return by_id or self._search(f"tags.`{tag}` LIKE '{prefix}%'")

    def by_name(self, name: str) -> list[TrackedRun]:
        """Return the runs with this name. MLflow cannot search for a name with a double quote."""
        return [] if '"' in name else self._search(f'attributes.run_name = "{name}"')

    def by_tag(self, tag: str, value: str) -> list[TrackedRun]:
        """Return the runs whose tag has this value, which must not contain quotes."""
        return self._search(f"tags.`{tag}` = '{value}'")

    def all(self) -> list[TrackedRun]:
        """Return all runs of the store."""
        return self._search("")

    def text(self, run: TrackedRun, path: str) -> str | None:
        """Return the text of the run's artifact at `path`, or None if the artifact is missing."""

        def download() -> str | None:
            siblings = self._client.list_artifacts(run.run_id, path.rpartition("/")[0])
            if path not in [info.path for info in siblings]:
                return None
            with tempfile.TemporaryDirectory() as target:
                file = Path(self._client.download_artifacts(run.run_id, path, target))
                return file.read_bytes().decode(errors="replace")

        return ask(self._store, download)

    def _search(self, condition: str) -> list[TrackedRun]:
        search = self._client.search_runs
        found = ask(
            self._store, lambda: search(self._experiments, condition, max_results=MAX_RESULTS)
        )
        return [
            TrackedRun(
                run.info.run_id, run.info.run_name or "", run.info.status, run.info.start_time,
                dict(run.data.tags), dict(run.data.params), dict(run.data.metrics),
            )
            for run in found
        ]  # fmt: skip
