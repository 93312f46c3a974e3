"""The previous outputs of a stage that fails, put back: DVC removes them before it runs the stage.

They are what `dvc.lock` names. DVC's cache has them. It has metrics and plots, too: `cache: false` gives those to git,
but DVC's run cache stores them with the rest. After a `dvc pull`, git alone has them. `dvc checkout` would restore no
metrics and plots, and fails while another process holds DVC's lock. All is found by its hash, so nothing else can come
back. Nothing is done for a stage that is run without DVC, which still has its outputs.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_file, atomic_folder, write_bytes
from pipeline.dvc.record import FOLDER, cached, files_of, recorded_outputs
from pipeline.provenance.git import content_at
from pipeline.provenance.hashes import dvc_md5, md5_of_bytes
from pipeline.stage.exit_codes import EXIT_DEFECT, rank

log = logging.getLogger("charlstm")

LAUNCHED_STAGE = "CHARLSTM_LAUNCHED_STAGE"  # of the launcher above: the stage that it runs, or nothing
DVC_STAGE = "DVC_STAGE"  # DVC has the stage's name there: `train`, or `sub/dvc.yaml:train`


def with_previous_outputs(run: Callable[[], int]) -> int:
    """Run a stage; its exit code. If that is not 0 or if it raises, the previous outputs are put back."""
    code = EXIT_DEFECT
    try:
        code = run()
    finally:
        stage = os.environ.get(DVC_STAGE, "")
        name = stage.rpartition(":")[2]
        # A launcher above does it for its stage. One of DVC itself has none.
        is_launched = os.environ.get(LAUNCHED_STAGE) == stage or rank() > 0
        if code != 0 and name and not is_launched:
            try:
                put_back(name)
            except (OSError, CharlstmError) as error:
                log.warning(
                    "the previous outputs of %s are not back in place: %s; `dvc checkout` tries again", name, error
                )
    return code


def put_back(stage: str) -> None:
    """Restore the outputs that `dvc.lock` has for `stage`, unless the stage has begun to write others."""
    recorded = recorded_outputs(stage)
    absent = {path: digest for path, digest in recorded.items() if not path.exists()}
    begun = [str(path) for path, digest in recorded.items() if path not in absent and dvc_md5(path) != digest]
    if begun:
        log.warning("the previous outputs of %s stay away, since it has begun to write: %s", stage, ", ".join(begun))
        return
    is_back = {str(path): _restore(path, digest) for path, digest in absent.items()}
    if back := [path for path in is_back if is_back[path]]:
        log.warning("the previous outputs of %s are back in place: %s", stage, ", ".join(back))
    if lost := [path for path in is_back if not is_back[path]]:
        log.warning("neither DVC's cache nor git has what %s had made before: %s", stage, ", ".join(lost))


def _restore(path: Path, digest: str) -> bool:
    """Whether all that is needed to make `path` was there."""
    if digest.endswith(FOLDER):
        listed = files_of(digest)
        files = {name: file for name, md5 in listed.items() if (file := cached(md5))}
        if not listed or len(files) < len(listed):
            return False
        with atomic_folder(path) as folder:
            for name, file in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / name)
    elif (file := cached(digest)) is not None:
        with atomic_file(path) as temporary:
            shutil.copyfile(file, temporary)
    else:
        content = content_at(path)
        if content is None or md5_of_bytes(content) != digest:
            return False
        write_bytes(path, content)
    return True
