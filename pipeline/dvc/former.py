"""A stage's former outputs, put back when the stage fails: DVC removes them before it runs the stage.

They are what `dvc.lock` names. Most lie in DVC's cache. Metrics and plots do not (`cache: false`): of those, a stage
that ends well leaves copies below `.charlstm`, and git may have them. All is found by its hash, so nothing else can
come back. A stage that is run without DVC still has its outputs, and nothing is done.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_file, atomic_folder, write_bytes
from charlstm.files.documents import load_yaml
from pipeline.dvc.paths import load_outs, load_paths
from pipeline.dvc.record import FOLDER, cached, files_of
from pipeline.provenance.git import content_at_head
from pipeline.provenance.hashes import folder_md5, md5, md5_of_bytes
from pipeline.stage.exit_codes import EXIT_CODES, EXIT_DEFECT
from pipeline.stage.tracking_store import kept_root

log = logging.getLogger("charlstm")

DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")
DVC_STAGE = "DVC_STAGE"  # DVC has the stage's name there: `train`, or `sub/dvc.yaml:train`
MAX_KEPT = 60  # of the files without a place in DVC's cache, some for each stage
MAX_KEPT_BYTES = 20_000_000

Content = Path | bytes


def with_former(run: Callable[[], int]) -> int:
    """What `run`, a stage, returns. If that is not 0 or if it raises, the former outputs are put back."""
    code = EXIT_DEFECT
    try:
        code = run()
    finally:
        name = os.environ.get(DVC_STAGE, "").rpartition(":")[2]
        is_one_of_several = EXIT_CODES in os.environ or os.environ.get("RANK", "0") != "0"  # the launcher does it
        is_teaching = "@" in name  # of distillation/dvc.yaml, whose outputs are all in the cache
        if name and not is_teaching and not is_one_of_several:
            try:
                if code == 0:
                    keep(name)
                else:
                    put_back(name)
            except (OSError, CharlstmError) as error:
                log.warning("the former outputs of %s: %s", name, error)
    return code


def keep(stage: str) -> None:
    """Copy the outputs of `stage` that DVC's cache does not have, by their MD5; only so many are kept."""
    root = kept_root()
    for path in load_outs(DVC_YAML, stage, load_paths(DVC_YAML), is_cached=False):
        if path.is_file() and path.stat().st_size <= MAX_KEPT_BYTES:
            copy = root / md5(path)
            if not copy.exists():
                write_bytes(copy, path.read_bytes())
            copy.touch()  # used last
    for old in sorted(root.glob("*"), key=_last_used, reverse=True)[MAX_KEPT:]:
        old.unlink(missing_ok=True)


def put_back(stage: str) -> None:
    """Make the outputs that `dvc.lock` has for `stage` from copies, unless the stage has begun to write others."""
    recorded = recorded_outputs(stage)
    absent = {path: digest for path, digest in recorded.items() if not path.exists()}
    begun = [str(path) for path, digest in recorded.items() if path not in absent and _md5(path) != digest]
    if begun:
        log.warning("the former outputs of %s stay away, since it has begun to write: %s", stage, ", ".join(begun))
        return
    lost = [str(path) for path, digest in absent.items() if not _make(path, digest)]
    if made := [str(path) for path in absent if str(path) not in lost]:
        log.warning("the former outputs of %s are back in place: %s", stage, ", ".join(made))
    if lost:
        log.warning("neither DVC's cache nor git has what %s had made before: %s", stage, ", ".join(lost))


def recorded_outputs(stage: str) -> dict[Path, str]:
    """Output -> MD5, as `dvc.lock` has them; empty if there is no record."""
    if not DVC_LOCK.exists():
        return {}
    try:
        entries = load_yaml(DVC_LOCK)["stages"][stage]["outs"]
        return {Path(entry["path"]): str(entry["md5"]) for entry in entries}
    except (KeyError, TypeError):
        return {}


def _md5(path: Path) -> str:
    return folder_md5(path) if path.is_dir() else md5(path)


def _make(path: Path, digest: str) -> bool:
    """Whether there was all that is needed to make `path`."""
    if not digest.endswith(FOLDER):
        if (content := _content(path, digest)) is None:
            return False
        with atomic_file(path) as temporary:
            _write(temporary, content)
        return True
    files = {name: cached(one) for name, one in files_of(digest).items()}
    if not files or None in files.values():
        return False
    with atomic_folder(path) as folder:
        for name, file in _found(files):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _write(folder / name, file)
    return True


def _found(files: Mapping[str, Path | None]) -> Iterator[tuple[str, Path]]:
    yield from ((name, file) for name, file in files.items() if file is not None)


def _content(path: Path, digest: str) -> Content | None:
    for file in (cached(digest), kept_root() / digest):
        if file is not None and file.is_file():
            return file
    content = content_at_head(path)
    return content if content is not None and md5_of_bytes(content) == digest else None


def _write(target: Path, content: Content) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, target)
    else:
        target.write_bytes(content)


def _last_used(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
