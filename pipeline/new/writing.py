"""All files of a new corpus, or none: composed in a copy of `conf/` first, then written."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from charlstm.storage.files import atomic_folder, write_text
from pipeline.common.composing import Composed, compose

CONF, PARAMS = Path("conf"), Path("params.yaml")


def compose_with(files: Mapping[Path, str]) -> Composed:
    """What `conf/` would give with `files` in it.

    Raises:
        ParamsError: it would have a mistake.
    """
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        conf = Path(folder) / CONF
        shutil.copytree(CONF, conf)
        for path, text in files.items():
            write_text(Path(folder) / path, text)
        return compose(conf)


def write_all(files: Mapping[Path, str], links: Path | None = None, targets: Sequence[Path] = ()) -> None:
    """Write `files`, and `links`, a folder of links to `targets` in their order. What fails leaves all as it was."""
    with ExitStack() as undo:
        for path in files:
            undo.callback(_restore, path, path.read_bytes() if path.exists() else None)
        if links:
            undo.callback(_remove_new, links, links.exists())
            _link(links, targets)
        for path, text in files.items():
            write_text(path, text)
        undo.pop_all()


def link_name(number: int, target: Path) -> str:
    """A name that sorts by `number`, from 1, and that a parameter can hold."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in target.name)
    return f"{number:05}-{plain[-100:]}"


def _link(folder: Path, targets: Sequence[Path]) -> None:
    with atomic_folder(folder) as temporary:
        for number, target in enumerate(targets, 1):
            (temporary / link_name(number, target)).symlink_to(target)


def _remove_new(folder: Path, was_there: bool) -> None:
    if not was_there:
        shutil.rmtree(folder, ignore_errors=True)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
