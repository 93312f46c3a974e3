"""Machines that vanish: does a training end in the bytes of an undisturbed one on a machine that has only its mirror?

Usage: python -m benchmarks.machines [--count 20] [--seed 0] [--s3]

A machine is a folder: code, data, and what a training writes. It is killed at a random moment, half of the time while a
checkpoint is copied to the mirror, and its folder is removed. The next machine begins with code and data alone. Two
vanish in each training, then one is left to finish. Trainings of one and of two processes take turns. All machines
share an MLflow database, where each training is to be one run with one whole curve.

The mirror is a folder. With `--s3`, it is in a bucket of a server that delays each request by 200 ms.
`benchmarks.tracking` says what a mirror costs.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fsspec

from benchmarks.harness import console, new_parser
from benchmarks.kills import OVERRIDE, WORLDS, start_and_kill
from benchmarks.object_store import BUCKET, object_store
from benchmarks.projects import PYTHON, make_encoded_project, results, run, training_command
from benchmarks.tracking import RunSummary, expected_summary, read_summary
from charlstm.files.checksums import SUMS
from charlstm.training.checkpoint import STATE
from pipeline.stage.settings import MIRROR

VANISHING, DELAY = 2, 0.2


def main() -> int:
    """Destroy, go on elsewhere, compare; the exit code is 1 if a byte or a run differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=20, help="number of machines that vanish")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--s3", action="store_true", help="a bucket instead of a folder")
    arguments = parser.parse_args()
    generator, moments = random.Random(arguments.seed), Counter[str]()
    num_trainings = num_wrong = 0
    with tempfile.TemporaryDirectory(prefix="charlstm-machines-") as name:
        folder = Path(name)
        template, log, database = folder / "template", folder / "log", folder / "mlflow.db"
        make_encoded_project(template, OVERRIDE)
        # A server is not made by the machines that vanish: half of a database could not be mended.
        subprocess.run([*PYTHON, "mlflow", "db", "upgrade", f"sqlite:///{database}"], check=True, capture_output=True)
        expected = {}
        for world in WORLDS:
            reference = folder / f"reference-{world}"
            shutil.copytree(template, reference)
            assert run(reference, training_command(world), log) == 0, log.read_text()
            expected[world] = results(reference)
        while moments.total() < arguments.count:
            world, store = WORLDS[num_trainings % len(WORLDS)], folder / f"store-{num_trainings}"
            log, machine = folder / f"log-{num_trainings}", folder / "machine"
            store.mkdir()
            shutil.copy(database, store)
            with _mirror(folder / f"mirror-{num_trainings}", is_s3=arguments.s3) as mirror:
                variables = {**mirror.variables, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"}
                for _ in range(min(VANISHING, arguments.count - moments.total())):
                    shutil.copytree(template, machine)
                    is_copying = partial(_is_copying, mirror)
                    moments[start_and_kill(machine, world, log, generator, "copying", is_copying, **variables)] += 1
                    shutil.rmtree(machine)
                shutil.copytree(template, machine)
                code = run(machine, training_command(world), log, **variables)
            is_right = code == 0 and results(machine) == expected[world]
            faults = [] if is_right else [f"DIFFERENT (exit code {code})\n{log.read_text()[-2000:]}"]
            if is_right and (found := _finished(store)) != expected_summary(machine).of_checkpoints():
                faults.append(f"another run: {found}\n{log.read_text()[-2000:]}")
            num_wrong += bool(faults)
            num_trainings += 1
            num_resumed = log.read_text().count("the mirror has a newer checkpoint than this machine")
            verdict = "; ".join(faults) or f"identical, one run; {num_resumed} starts from the mirror"
            console.print(f"{moments.total():4d} gone, training {num_trainings} of {world} process(es): {verdict}")
            shutil.rmtree(machine)
    console.print(
        f"{moments.total()} machines gone ({', '.join(f'{number} {moment}' for moment, number in moments.items())}), "
        f"{num_trainings} trainings, {num_wrong} with other bytes or another run"
    )
    return int(num_wrong > 0)


class _Where(NamedTuple):
    """A mirror."""

    variables: Mapping[str, str]  # that name it
    names: Callable[[], list[str]]  # of what it has


@contextmanager
def _mirror(folder: Path, *, is_s3: bool) -> Iterator[_Where]:
    """An empty one."""
    if not is_s3:
        yield _Where({MIRROR: folder.as_uri()}, lambda: [file.name for file in folder.rglob("step-*")])
        return
    with object_store(DELAY) as variables:
        files = fsspec.filesystem(
            "s3", key=variables["AWS_ACCESS_KEY_ID"], secret=variables["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=variables["AWS_ENDPOINT_URL"], use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip
        yield _Where({**variables, MIRROR: f"s3://{BUCKET}/trainings"}, lambda: list(files.find(BUCKET)))


def _is_copying(mirror: _Where) -> bool:
    """Whether a checkpoint is there that is not complete."""
    with suppress(OSError):
        names = mirror.names()
        states = [name for name in names if name.endswith(STATE)]
        return any(name.removesuffix(STATE) + SUMS not in names for name in states)
    return False


def _finished(store: Path) -> RunSummary:
    """What the database has of the run that was finished; a machine that vanished at once may have left another."""
    summary = read_summary(store)
    finished = [status for status in summary.statuses if status == "FINISHED"]
    return summary._replace(statuses=finished).of_checkpoints()


if __name__ == "__main__":
    sys.exit(main())
