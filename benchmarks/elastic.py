"""A training that continues without lost nodes and includes returning nodes.

Usage: python -m benchmarks.elastic      (as root; needs iproute2)

Three nodes are network namespaces of this machine, connected by a bridge. Each has its own folder.
`torchrun --nnodes 1:3 --max-restarts 9` trains on them, with a checkpoint mirror and one MLflow
database. A node is killed with its folder and returns with only code and data. Then another node's
cable is cut and reconnected.

The losses must be those of one undisturbed process, and the run in MLflow must have each step once.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.harness import console, new_parser
from benchmarks.tracking import expected_run, read_run
from charlstm.errors import ParamsError, TrainingError
from pipeline.run.settings import CHECKPOINT_MIRROR
from pipeline.run.stage import errors_reported
from tests.support.projects import LAUNCH, kill, make_encoded_project, run, start, training_command

PREFIX = "charlstm-elastic"
BRIDGE = "charlstm-bridge"
NETWORK = "10.78.0"
ADDRESSES = {"a": f"{NETWORK}.1", "b": f"{NETWORK}.2", "c": f"{NETWORK}.3"}
PORT = 29507
OVERRIDE = {
    "train.epochs": 200,
    "train.early_stopping_epochs": None,
    "train.batch_size": 6,
    # A low rate, so that the rounding of several processes does not grow from step to step.
    "train.learning_rate": 1e-4,
    "train.muon.learning_rate": 3e-4,
}
MAX_SECONDS = 240.0  # until nodes train together
LIMIT = 60.0  # seconds from a loss to the next step
MAX_DIFFERENCE = 1e-6  # relative difference of a step's loss


def main() -> int:
    """Lose nodes, take them back, compare. Return 1 if something took too long or differs."""
    new_parser(__doc__).parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ParamsError("network namespaces need root and `ip` (Debian: iproute2)")
    with tempfile.TemporaryDirectory(prefix="charlstm-elastic-") as name, network():
        folder = Path(name)
        template = folder / "template"
        undisturbed = folder / "undisturbed"
        make_encoded_project(template, OVERRIDE)
        shutil.copytree(template, undisturbed)
        log = folder / "log"
        assert run(undisturbed, training_command(1), log) == 0, log.read_text()
        nodes = {name: start_node(folder, name) for name in ADDRESSES}
        try:
            is_right = lose_and_take_back(folder, nodes)
        finally:
            for process in nodes.values():
                kill(process)
        return int(not (compare(folder) and is_right))


def ip(arguments: str) -> None:
    """Run `ip`. Raise CalledProcessError if it fails."""
    subprocess.run(["ip", *arguments.split()], check=True)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Create a bridge, and a namespace with a cable for each node. Remove them at the end."""
    try:
        ip(f"link add {BRIDGE} type bridge")
        ip(f"link set {BRIDGE} up")
        for node, address in ADDRESSES.items():
            namespace = f"{PREFIX}-{node}"
            ip(f"netns add {namespace}")
            ip(f"link add cable-{node} type veth peer name eth0 netns {namespace}")
            ip(f"link set cable-{node} master {BRIDGE} up")
            ip(f"-n {namespace} address add {address}/24 dev eth0")
            ip(f"-n {namespace} link set lo up")
            ip(f"-n {namespace} link set eth0 up")
        yield
    finally:
        commands = [f"link delete {BRIDGE}"]
        commands += [f"link delete cable-{node}" for node in ADDRESSES]
        commands += [f"netns delete {PREFIX}-{node}" for node in ADDRESSES]
        for command in commands:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(command)


def start_node(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    """Start a node. A node without a folder gets code and data."""
    if not (folder / name).exists():
        shutil.copytree(folder / "template", folder / name)
    conf = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=3"
    torchrun = (
        f"torchrun --nnodes 1:{len(ADDRESSES)} --nproc_per_node 1 --max-restarts 9 "
        f"--rdzv-backend c10d --rdzv-id charlstm-elastic --rdzv-endpoint {ADDRESSES['a']}:{PORT} "
        f"--rdzv-conf {conf},is_host={int(name == 'a')} --local-addr {ADDRESSES[name]}"
    )
    namespace = ("ip", "netns", "exec", f"{PREFIX}-{name}")
    variables = {
        "GLOO_SOCKET_IFNAME": "eth0",
        "CHARLSTM_TIMEOUT_SECONDS": "10",
        "CHARLSTM_CHECKPOINT_SECONDS": "2",
        CHECKPOINT_MIRROR: (folder / "mirror").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = [*namespace, *LAUNCH, *torchrun.split(), "-m", "pipeline", "train"]
    # The log is outside of the node's folder, which may be removed.
    return start(folder / name, command, folder / f"{name}.log", **variables)


def lose_and_take_back(folder: Path, nodes: dict[str, "subprocess.Popen[bytes]"]) -> bool:
    """Return whether each loss of a node was over within the limit."""
    seconds = [wait_for(folder, nodes, "abc", "three nodes are started")]
    time.sleep(5)
    kill(nodes["c"])
    shutil.rmtree(folder / "c")
    seconds.append(wait_for(folder, nodes, "ab", "node c is gone with its folder"))
    nodes["c"] = start_node(folder, "c")
    seconds.append(wait_for(folder, nodes, "abc", "it comes back"))
    time.sleep(5)
    ip("link set cable-b down")
    seconds.append(wait_for(folder, nodes, "ac", "the cable of node b is cut"))
    ip("link set cable-b up")
    seconds.append(wait_for(folder, nodes, "abc", "it is put back"))
    codes = {name: process.wait() for name, process in nodes.items()}
    console.print(f"exit codes: {codes}")
    return max(seconds) <= LIMIT and set(codes.values()) == {0}


def wait_for(
    folder: Path, nodes: dict[str, "subprocess.Popen[bytes]"], names: str, event: str
) -> float:
    """Wait until these nodes train together, by the log of any of them. Return the seconds."""
    together = rf"{len(names)} process\(es\)(?!.*process\(es\)).*epoch \d+/\d+ "
    trains = re.compile(together, re.DOTALL)
    logs = {name: folder / f"{name}.log" for name in names}
    since = {name: len(log.read_text()) for name, log in logs.items()}
    started = time.monotonic()
    while not any(trains.search(log.read_text()[since[name] :]) for name, log in logs.items()):
        has_ended = any(nodes[name].poll() is not None for name in names)
        if has_ended or time.monotonic() - started > MAX_SECONDS:
            said = [f"{name}: {log.read_text()[-3000:]}" for name, log in logs.items()]
            raise TrainingError("\n".join([event, *said]))
        time.sleep(0.1)
    console.print(f"{event}: {len(names)} train after {time.monotonic() - started:.0f} s")
    return time.monotonic() - started


def compare(folder: Path) -> bool:
    """Compare the losses with those of one process, and the run with the tables."""
    (project,) = (
        folder / name for name in ADDRESSES if (folder / name / "artifacts/train").exists()
    )
    found, expected = (
        pd.read_csv(one / "artifacts/train/steps.csv")["train_nats_per_char"]
        for one in (project, folder / "undisturbed")
    )
    difference = float(((found - expected).abs() / expected).max())
    console.print(
        f"{len(found)} steps, largest relative difference {difference:.1e} "
        f"(limit {MAX_DIFFERENCE:g})"
    )
    is_one = read_run(folder) == expected_run(project)
    console.print(f"MLflow: one complete run, no point twice: {is_one}")
    return len(found) == len(expected) and difference <= MAX_DIFFERENCE and is_one


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
