"""Machines that vanish: does a training end in the bytes of an undisturbed one elsewhere, from the checkpoint mirror?

Usage: python -m benchmarks.machines [--count 20] [--seed 0] [--s3]

A machine is a folder: code, data, and what a training writes. It is killed as in `benchmarks.kills`, and its folder is
removed. The next one begins with code and data alone. Two vanish in each training, then one is left to finish. All
share an MLflow database, where each training is to be one run with one whole curve.

The checkpoint mirror is a folder. With `--s3`, it is in a bucket of a server that delays each request by 200 ms.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import console, new_parser
from benchmarks.kills import WORLDS, in_words, start_and_kill, train_undisturbed
from benchmarks.object_store import BUCKET, object_store
from benchmarks.tracking import expected_run, read_run
from pipeline.run.project import CHECKPOINT_MIRROR
from tests.support.projects import PYTHON, results, run, training_command

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
        template, expected = train_undisturbed(folder)
        database, machine = folder / "mlflow.db", folder / "machine"
        # A server is not made by the machines that vanish: half of a database could not be mended.
        subprocess.run(
            [*PYTHON, "mlflow", "db", "upgrade", f"sqlite:///{database}"],
            check=True,
            capture_output=True,
        )
        while moments.total() < arguments.count:
            world = WORLDS[num_trainings % len(WORLDS)]
            store, log = folder / f"store-{num_trainings}", folder / f"log-{num_trainings}"
            store.mkdir()
            shutil.copy(database, store)
            with mirror_in(folder / f"mirror-{num_trainings}", is_s3=arguments.s3) as variables:
                variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{store}/mlflow.db"
                for _ in range(min(VANISHING, arguments.count - moments.total())):
                    shutil.copytree(template, machine)
                    moments[start_and_kill(machine, world, log, generator, **variables)] += 1
                    shutil.rmtree(machine)
                shutil.copytree(template, machine)
                code = run(machine, training_command(world), log, **variables)
            faults = (
                []
                if code == 0 and results(machine) == expected[world]
                else [f"DIFFERENT (exit code {code})"]
            )
            run_there = read_run(store)
            run_there["runs"] = [
                1,
                1,
            ]  # a machine that vanished at once may have left another, which is not finished
            if not faults and run_there != expected_run(machine):
                faults.append(f"another run: {run_there}")
            num_wrong += bool(faults)
            num_trainings += 1
            verdict = (
                f"{'; '.join(faults)}\n{log.read_text()[-2000:]}"
                if faults
                else "identical, one run"
            )
            console.print(
                f"{moments.total():4d} gone, training {num_trainings} of {world} process(es): {verdict}"
            )
            shutil.rmtree(machine)
    console.print(
        f"{in_words(moments)}; {num_trainings} trainings, {num_wrong} with other bytes or another run"
    )
    return int(num_wrong > 0)


@contextmanager
def mirror_in(folder: Path, *, is_s3: bool) -> Iterator[dict[str, str]]:
    """An empty one; the variables that name it."""
    if not is_s3:
        yield {CHECKPOINT_MIRROR: folder.as_uri()}
        return
    with object_store(DELAY) as variables:
        yield {**variables, CHECKPOINT_MIRROR: f"s3://{BUCKET}/trainings"}


if __name__ == "__main__":
    sys.exit(main())
