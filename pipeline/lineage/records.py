"""What a run of MLflow carries of its origin: `lineage/<stage>/` of `pipeline.common.provenance`, read back."""

import json
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import ParamsError
from charlstm.params import Params
from charlstm.storage.documents import parse_yaml
from charlstm.storage.yaml_files import validate
from charlstm.tracking.lineage import Reader, TrackedRun
from pipeline.common.chain import SEEN_BY
from pipeline.common.presets import recipe_of
from pipeline.common.provenance import COMMIT, LINEAGE


class StageRecord(NamedTuple):
    """What one stage has left."""

    stage: str
    origin: dict[str, str]
    files: dict[str, str]  # path -> SHA-256
    outputs: dict[str, str]  # path -> MD5 of DVC
    params: str | None
    lock: str | None
    changes: str | None

    @property
    def commit(self) -> str | None:
        """The commit that the stage ran at."""
        return self.origin.get(COMMIT)


def read_records(reader: Reader, run: TrackedRun) -> list[StageRecord]:
    """The records of the stages that have left one, in their order; none for a run that was made before there were any.

    Raises:
        TrackingError: the store does not answer.
    """
    found = []
    for stage in SEEN_BY:
        folder = f"{LINEAGE}/{stage}"
        origin, files, outputs = (
            _mapping(reader.text(run, f"{folder}/{name}.json")) for name in ("origin", "files", "outputs")
        )
        if files:
            params, lock, changes = (
                reader.text(run, f"{folder}/{name}") for name in ("params.yaml", "dvc.lock", "changes.diff")
            )
            found.append(StageRecord(stage, origin, files, outputs, params, lock, changes))
    return found


def recipe_label(params: str | None) -> str | None:
    """The recipe of a `params.yaml` that a run or a commit has; None without one, or if it is of another version."""
    if params is None:
        return None
    try:
        return recipe_of(validate(Params, parse_yaml(params), Path("params.yaml"))).label
    except (ParamsError, ValueError):
        return None


def read_files(reader: Reader, run: TrackedRun) -> dict[str, str]:
    """Only the SHA-256 of all files: quick, for a search through many runs."""
    found: dict[str, str] = {}
    for stage in SEEN_BY:
        found |= _mapping(reader.text(run, f"{LINEAGE}/{stage}/files.json"))
    return found


def _mapping(text: str | None) -> dict[str, str]:
    """A JSON object of strings; empty if it is none: anybody may have written it."""
    try:
        document = json.loads(text or "")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in document.items()} if isinstance(document, dict) else {}
