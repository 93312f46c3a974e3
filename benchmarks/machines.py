"""Machines that vanish: the checkpoint mirror must let a training end elsewhere in the same bytes.

Usage: python -m benchmarks.machines [--count 20] [--seed 0] [--s3]

A machine is a folder with code, data, and everything that a training writes. It is killed as in
`benchmarks.kills`, and its folder is removed. The next machine begins with only code and data. Two
vanish in each training, then one finishes. All share an MLflow database, in which each training
must be one run with one complete curve.

The checkpoint mirror is a folder, or with `--s3` a bucket of a server that delays each request by
200 ms.
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
from pipeline.run.settings import CHECKPOINT_MIRROR
from tests.support.projects import PYTHON, results, run, training_command

VANISHING = 2
DELAY = 0.2


def main() -> int:
    """Destroy machines, continue elsewhere, compare. Return 1 if a byte or a run differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=20, help="number of machines that vanish")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--s3", action="store_true", help="a bucket instead of a folder")
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    moments = Counter[str]()
    num_trainings = num_wrong = 0
    with tempfile.TemporaryDirectory(prefix="charlstm-machines-") as name:
        folder = Path(name)
        template, expected = train_undisturbed(folder)
        database = folder / "mlflow.db"
        machine = folder / "machine"
        # A vanishing machine must not create the database: half of it could not be repaired.
        uri = f"sqlite:///{database}"
        subprocess.run([*PYTHON, "mlflow", "db", "upgrade", uri], check=True, capture_output=True)
        while moments.total() < arguments.count:
            world = WORLDS[num_trainings % len(WORLDS)]
            store = folder / f"store-{num_trainings}"
            log = folder / f"log-{num_trainings}"
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
            faults = []
            if code != 0 or results(machine) != expected[world]:
                faults.append(f"DIFFERENT (exit code {code})")
            found = read_run(store)
            # A machine that vanished in the first second may leave another, unfinished run.
            found["runs"] = [1, 1]
            if not faults and found != expected_run(machine):
                faults.append(f"another run: {found}")
            num_wrong += bool(faults)
            num_trainings += 1
            verdict = "identical, one run"
            if faults:
                verdict = f"{'; '.join(faults)}\n{log.read_text()[-2000:]}"
            kind = f"{world} process(es)"
            gone = f"{moments.total():4d} gone"
            console.print(f"{gone}, training {num_trainings} of {kind}: {verdict}")
            shutil.rmtree(machine)
    wrong = f"{num_wrong} with other bytes or another run"
    console.print(f"{in_words(moments)}; {num_trainings} trainings, {wrong}")
    return int(num_wrong > 0)


@contextmanager
def mirror_in(folder: Path, *, is_s3: bool) -> Iterator[dict[str, str]]:
    """Create an empty mirror. Yield the environment variables that name it."""
    if not is_s3:
        yield {CHECKPOINT_MIRROR: folder.as_uri()}
        return
    with object_store(DELAY) as variables:
        yield {**variables, CHECKPOINT_MIRROR: f"s3://{BUCKET}/trainings"}


if __name__ == "__main__":
    sys.exit(main())
