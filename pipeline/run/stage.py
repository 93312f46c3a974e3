"""The frame of a stage: it loads parameters and turns errors into one line and an exit code."""

import argparse
import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from charlstm.errors import CharlstmError, Interrupted, ParamsError, PeerError
from pipeline.run.interruption import handled_signals, stop_with_parent
from pipeline.run.project import PARAMS, project_root
from pipeline.run.settings import MLFLOW_DEFAULTS, check_settings, local_rank, rank
from pipeline.run.store import store

# Commands that need no parameters start faster without these imports.
if TYPE_CHECKING:
    from charlstm.params import Params
    from pipeline.run.dvc import Paths

# `result` prints the result. It is not a stage of DVC.
STAGES = ("check", "download", "split", "encode", "train", "evaluate", "sample", "result")
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL in sysexits.h: try again
# Without the argument `dvc.yaml`, `dvc checkout` would also remove the other recipes' texts.
GO_BACK = "git checkout HEAD . && dvc checkout dvc.yaml"
NEVER = sys.float_info.max
MAX_NAMED = 3  # number of changed inputs that an error message lists

UNWINDING = ("SIGTERM", "SIGHUP")
PACKAGES = ("charlstm", "pipeline")
# Operating-system errors that only a defect in this program can cause.
# Users can fix all other errors: files, permissions, disk space, limits and broken disks.
DEFECTS = (errno.EBADF, errno.ECHILD, errno.EINVAL, errno.EPIPE, errno.ESRCH)

log = logging.getLogger("charlstm")


class Stage(NamedTuple):
    """A running stage: its name, parameters and paths, and the hashes of its inputs at its start.

    Processes of one machine read the same files, so only the first of them hashes the inputs. The
    other processes have no `inputs`.
    """

    name: str
    params: "Params"
    paths: "Paths"
    inputs: Mapping[str, object]

    @property
    def fingerprint(self) -> str:
        """A hash of all inputs, or an empty string without inputs."""
        document = json.dumps(self.inputs, sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:16] if self.inputs else ""

    def check_unchanged(self) -> None:
        """Check that the inputs are the same as at the start.

        DVC hashes inputs after a stage, and would record changed inputs as the outputs' origin.

        Raises:
            ParamsError: an input changed.
        """
        from pipeline.run.dvc import inputs_of

        inputs = inputs_of(self.name, load()[0])
        names = {**self.inputs, **inputs}
        _refuse_changed(
            self.name, [name for name in names if self.inputs.get(name) != inputs.get(name)]
        )


def main(argv: Sequence[str], started: float = NEVER) -> int:
    """Run a stage in the current folder. Return its exit code.

    A stage has no options, because `params.yaml` has all its parameters.

    Args:
        argv: the name of the stage.
        started: when this process started, in seconds since 1970.
    """
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    name = parser.parse_args(argv).stage
    with errors_reported() as outcome:
        stop_with_parent()
        check_settings()
        # An invalid MLflow address must end the stage before its work, not after its work.
        store()
        stage = start(name, started)
        import_module(f"pipeline.{name}").run(stage)
        if rank() == 0:
            stage.check_unchanged()
    return outcome.code


def start(name: str, started: float = NEVER) -> Stage:
    """Load a stage's parameters and hash its inputs.

    Raises:
        ParamsError: a parameter is invalid, or the stage's code changed after `started`.
    """
    from pipeline.run.dvc import changed_code, inputs_of

    params, paths = load()
    inputs = inputs_of(name, params) if local_rank() == 0 else {}
    # Python may have imported code before an edit, and the hash was computed after the edit.
    _refuse_changed(name, changed_code(inputs, started))
    return Stage(name, params, paths, inputs)


def load() -> tuple["Params", "Paths"]:
    """Return the parameters and paths of the project in the current folder."""
    from charlstm.params import load_params
    from pipeline.run.dvc import load_paths

    return load_params(PARAMS), load_paths()


def _refuse_changed(stage: str, names: Sequence[str]) -> None:
    advice = "run `dvc repro` again"
    if stage == "train":
        advice = (
            "restore the changed inputs, and `dvc repro` finishes from the last checkpoint; "
            "otherwise `dvc repro` trains from the start"
        )
    if names:
        raise ParamsError(
            f"{', '.join(names[:MAX_NAMED])} changed while stage {stage} ran, so DVC records no "
            f"outputs: {advice}"
        )


class Outcome:
    """The exit code of a stage or command."""

    code = 0


@contextmanager
def errors_reported() -> Iterator[Outcome]:
    """Log an error of the body in one line, and yield the outcome, which gets the exit code.

    Any error that the user cannot fix is a defect of this program and keeps its traceback.
    """
    os.environ.update({**MLFLOW_DEFAULTS, **os.environ})
    # A notebook may set a Matplotlib backend that exists only in the notebook's own process.
    os.environ["MPLBACKEND"] = "agg"
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Write characters that the terminal's encoding lacks as escapes, such as `\u2026`.
            stream.reconfigure(errors="backslashreplace")
    outcome = Outcome()
    # Let these signals unwind the stack, as Ctrl-C does.
    # Unwinding removes temporary files and ends the tracked run.
    with handled_signals(UNWINDING, signal.default_int_handler):
        try:
            yield outcome
        except (Exception, KeyboardInterrupt) as error:
            outcome.code, message = _explanation(error)
            # The processes of one machine read the same input, so the first one reports errors in
            # it. A process that fails during training has a note with its rank.
            notes = getattr(error, "__notes__", [])
            if outcome.code == 1:
                traceback.print_exc()
            elif message and (notes or local_rank() == 0):
                log.error(" ".join(": ".join([*notes, message]).split("\n")))
    # A damaged or missing `dvc.lock` must not hide the first error.
    with contextlib.suppress(OSError, CharlstmError):
        if outcome.code != 0 and rank() == 0:
            _name_removed_outputs()


def _name_removed_outputs() -> None:
    """Log how to restore the outputs that DVC removed before the stage."""
    stage = os.environ.get("DVC_STAGE", "")  # for example `train` or `sub/dvc.yaml:train`
    is_temporary_copy = project_root() != Path.cwd()  # of an experiment
    if not stage or is_temporary_copy:
        return

    from pipeline.run.dvc import cached, read_lock

    recorded = read_lock().files("outs", stage.rpartition(":")[2])
    if any(cached(md5) for path, md5 in recorded.items() if not Path(path).exists()):
        log.warning(
            "DVC removed the outputs of %s before it ran: `%s` goes back to the last commit and "
            "discards your changes",
            stage,
            GO_BACK,
        )


def _explanation(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one-line message of an error. The code of a defect is 1."""
    match error:
        case PeerError():  # the process that failed reports the reason
            return EXIT_BAD_INPUT, ""
        case CharlstmError():
            return EXIT_BAD_INPUT, str(error)
        case OSError(errno=int(number)) if number not in DEFECTS:
            where = f"{error.filename}: " if error.filename else ""
            return EXIT_BAD_INPUT, f"{where}{error.strerror or error}"
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] not in PACKAGES:
            return EXIT_BAD_INPUT, (
                f"{name.partition('.')[0]} is not installed: `pip install --editable "
                "'PATH/TO/THE/CHECKOUT[pipeline]'` installs all packages that training needs"
            )
        case Interrupted():
            return (
                EXIT_INTERRUPTED,
                f"interrupted: the same command resumes from the last checkpoint ({error})",
            )
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED, "interrupted"
    return 1, ""


def end_process(code: int) -> NoReturn:
    """End this process at once.

    A regular exit would wait for threads of MLflow: 0.14 s after `charlstm generate`. If another
    training process was lost, torch's destructors may abort a regular exit, or wait forever.
    """
    for stream in (sys.stdout, sys.stderr):
        # The stream may be closed (None), or its reader may have ended.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)
