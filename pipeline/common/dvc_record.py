"""What DVC has recorded of the train stage, read from DVC's own files.

`dvc.lock` has the newest record of this working tree and commit. The run cache (`runs` in DVC's cache) has every record
that was ever made, of all commits, experiments and working copies that share the cache. Both have the same form: the
parameters, and an MD5 for each dependency and output.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.storage.yaml_files import load_yaml
from pipeline.common.known_hashes import md5

STAGE = "train"
SECONDS_TO_ANSWER = 60


class Outcome(NamedTuple):
    """A training as its record would have it: `output_md5` is that of a file that names all outputs by their hashes."""

    output_md5: str
    params: dict[str, Any]  # as in params.yaml, by the names that dvc.yaml gives them
    files: dict[str, str]  # dependency that is a file -> MD5

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """What `to_json` gave, read back.

        Raises:
            ValueError, KeyError, TypeError: something else.
        """
        found = json.loads(text)
        return cls(*(found[name] for name in cls._fields))


def outcome(output: Path, dependencies: list[Path]) -> Outcome:
    """Of the training that just wrote `output`, from the parameters and files of the current folder."""
    params = load_yaml(Path("params.yaml"))
    read = {name: params[name] for name in ("model", "train")}
    read["split.document_separator"] = params["split"]["document_separator"]
    read["teachers.parts"] = params["teachers"]["parts"]
    files = {str(path): md5(path) for path in dependencies if path.is_file()}
    return Outcome(md5(output), read, files)


def is_recorded(made: Outcome) -> bool:
    """Whether `dvc.lock` or the run cache has a record of it: these outputs, made of these parameters and files."""
    return any(_is_of(record, made) for record in records(made.output_md5))


def records(words: str) -> Iterator[Any]:
    """Records of the train stage that contain `words`, e.g. an MD5; documents as they are."""
    if (lock := Path("dvc.lock")).exists() and words in lock.read_text(errors="replace"):
        document = _load(lock)
        yield document.get("stages", {}).get(STAGE) if isinstance(document, dict) else None
    for file in (cache_folder() / "runs").glob("*/*/*"):
        if words in file.read_text(errors="replace"):
            yield _load(file)


def _load(path: Path) -> Any:  # noqa: ANN401  # a YAML document can be anything; `_is_of` looks
    try:
        return load_yaml(path)
    except CharlstmError:
        return None


def _is_of(record: Any, made: Outcome) -> bool:  # noqa: ANN401  # a YAML document
    try:
        files = {dep["path"]: dep["md5"] for dep in record["deps"]}
        return (
            made.output_md5 in [out["md5"] for out in record["outs"]]
            and record["params"]["params.yaml"] == made.params
            and all(files.get(path) == md5 for path, md5 in made.files.items())
        )
    except (KeyError, TypeError):
        return False


def cache_folder() -> Path:
    """DVC's own answer, since a team's cache may lie anywhere; it takes a second."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return Path(".dvc/cache")
    return Path(done.stdout.strip() or ".dvc/cache")
