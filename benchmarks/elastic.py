"""A training that goes on with the nodes that are left, and takes back one that returns.

Usage: python -m benchmarks.elastic [--backend c10d|etcd-v2]      (as root; needs iproute2, and etcd for etcd-v2)

Three nodes are network namespaces of this machine, each with a folder of its own, tied by a bridge. `torchrun
--nnodes 1:3 --max-restarts 9` trains on them, with a mirror of checkpoints and one MLflow database. First one node is
killed with all its processes, and its folder is removed; it comes back with code and data alone. Then the cable of
another is cut, and put back. With c10d, the first node is where they meet, so it stays. With etcd, the one that writes
the checkpoints is killed.

The losses must be those of one process that nobody disturbed, and the run in MLflow must have each step once.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.harness import console, new_parser
from benchmarks.projects import PYTHON, kill, make_encoded_project, run, training_command
from benchmarks.tracking import expected_summary, read_summary
from charlstm.errors import ParamsError, TrainingError
from pipeline.stage.settings import MIRROR
from pipeline.stage.stage import guarded

NODES = ("a", "b", "c")
BRIDGE, NETWORK = "charlstm-bridge", "10.78.0"
ADDRESSES = {node: f"{NETWORK}.{number}" for number, node in enumerate(NODES, start=1)}
MEETING_PORT, ETCD_PORT = 29507, 2379
OVERRIDE = {
    "train.epochs": 200,
    "train.early_stopping_epochs": None,
    "train.batch_size": 6,
    # So low that rounding, which depends on the number of processes, does not grow from step to step.
    "train.learning_rate": 1e-4,
    "train.muon.learning_rate": 3e-4,
}
MAX_SECONDS, LIMIT = 240.0, 60.0  # of waiting; from a loss to the next step
MAX_DIFFERENCE = 1e-6  # relative, of a step's loss
STEP = re.compile(r"epoch (\d+)/\d+ ")


class Node(NamedTuple):
    """A node: a namespace and a folder."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """What it says; not in its folder, which may vanish."""
        return self.folder.with_suffix(".log")

    @property
    def namespace(self) -> str:
        """Of its network."""
        return f"charlstm-{self.name}"

    def said(self) -> str:
        """What it has said."""
        return self.log.read_text() if self.log.exists() else ""


def ip(*arguments: str) -> None:
    """`ip`, which must succeed."""
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A bridge and the namespaces of all nodes on it."""
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{NETWORK}.100/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for node, address in ADDRESSES.items():
            namespace = f"charlstm-{node}"
            ip("netns", "add", namespace)
            ip("link", "add", f"cable-{node}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", f"cable-{node}", "master", BRIDGE, "up")
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", namespace, "link", "set", "eth0", "up")
        yield
    finally:
        for node in NODES:
            for arguments in (["link", "delete", f"cable-{node}"], ["netns", "delete", f"charlstm-{node}"]):
                subprocess.run(["ip", *arguments], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL)


class Cluster:
    """The nodes, their processes, and what all of them share."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend = folder, backend
        self.template = folder / "template"
        make_encoded_project(self.template, OVERRIDE)
        self.nodes = {name: Node(name, folder / name) for name in NODES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a node, with code and data alone if it has no folder."""
        node = self.nodes[name]
        if not node.folder.exists():
            shutil.copytree(self.template, node.folder)
        meeting = f"{NETWORK}.100:{ETCD_PORT}" if self.backend != "c10d" else f"{ADDRESSES['a']}:{MEETING_PORT}"
        conf = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=3"
        conf += f",is_host={int(name == 'a')}" if self.backend == "c10d" else ",protocol=http"
        command = [
            *("ip", "netns", "exec", node.namespace, *PYTHON, "pipeline.launch", "torchrun"),
            *("--nnodes", f"1:{len(NODES)}", "--nproc_per_node", "1", "--max-restarts", "9"),
            *("--rdzv-backend", self.backend, "--rdzv-endpoint", meeting, "--rdzv-id", "charlstm-elastic"),
            *("--rdzv-conf", conf, "--local-addr", ADDRESSES[name], "-m", "pipeline.train"),
        ]
        variables = {
            **os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GLOO_SOCKET_IFNAME": "eth0",
            "CHARLSTM_TIMEOUT_SECONDS": "10", "CHARLSTM_CHECKPOINT_SECONDS": "2",
            MIRROR: (self.folder / "mirror").as_uri(), "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
        }  # fmt: skip
        with node.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(command, cwd=node.folder, env=variables, stdout=log, stderr=log)

    def trains_with(self, world: int, names: Sequence[str], since: dict[str, int]) -> bool:
        """Whether one of these nodes says, after so many characters, that it trains with so many processes."""
        for name in names:
            said = self.nodes[name].said()[since.get(name, 0) :]
            begun = said.rfind(f"{world} process(es)")
            if begun >= 0 and STEP.search(said, begun):
                return True
        return False

    def wait_for(self, world: int, names: Sequence[str]) -> float:
        """Wait until these nodes train with so many processes; the seconds that took."""
        since = {name: len(self.nodes[name].said()) for name in names}
        started = time.monotonic()
        while not self.trains_with(world, names, since):
            ended = [name for name in names if self.processes[name].poll() is not None]
            if ended or time.monotonic() - started > MAX_SECONDS:
                said = (f"node {name}: {self.nodes[name].said()[-3000:]}" for name in names)
                raise TrainingError("\n".join([f"ended: {ended}", *said]))
            time.sleep(0.1)
        return time.monotonic() - started

    def main_node(self) -> str:
        """The node that writes: the last one that has said with how many processes it trains."""
        return max(self.nodes, key=lambda name: self._began_last(self.nodes[name]))

    def _began_last(self, node: Node) -> float:
        return node.log.stat().st_mtime if "process(es)" in node.said() else 0.0


@contextlib.contextmanager
def meeting_place(backend: str, folder: Path) -> Iterator[None]:
    """A server of etcd on the bridge, if it is needed."""
    if backend == "c10d":
        yield
        return
    if shutil.which("etcd") is None:
        raise ParamsError("--backend: etcd is not installed (Debian: etcd-server)")
    url = f"http://{NETWORK}.100:{ETCD_PORT}"
    peer = f"http://{NETWORK}.100:2380"
    command = ["etcd", "--enable-v2", "--data-dir", str(folder / "etcd"), "--listen-client-urls", url]
    command += ["--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", f"default={peer}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)
        yield
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """Lose nodes, take them back, compare; the exit code is 1 if something took too long or differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--backend", choices=("c10d", "etcd-v2"), default="c10d")
    backend = parser.parse_args().backend
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ParamsError("network namespaces need root and `ip` (Debian: iproute2)")
    with tempfile.TemporaryDirectory(prefix="charlstm-elastic-") as name, network():
        folder = Path(name)
        with meeting_place(backend, folder):
            cluster = Cluster(folder, backend)
            reference = folder / "reference"
            shutil.copytree(cluster.template, reference)
            assert run(reference, training_command(1), folder / "reference.log") == 0
            try:
                is_right = _lose_and_take_back(cluster)
            finally:
                for process in cluster.processes.values():
                    kill(process)
            return int(not (is_right and _compare(cluster, reference)))


def _lose_and_take_back(cluster: Cluster) -> bool:
    """Whether each loss was over within its limit."""
    for name in NODES:
        cluster.start(name)
    console.print(f"3 nodes train after {cluster.wait_for(3, NODES):.0f} s")
    victim = "c" if cluster.backend == "c10d" else cluster.main_node()
    left = [name for name in NODES if name != victim]
    time.sleep(5)
    kill(cluster.processes[victim])
    shutil.rmtree(cluster.nodes[victim].folder)
    seconds = [cluster.wait_for(2, left)]
    console.print(f"node {victim} is gone with its folder: the other two train after {seconds[-1]:.0f} s")
    cluster.start(victim)
    seconds.append(cluster.wait_for(3, NODES))
    console.print(f"it comes back: all three train after {seconds[-1]:.0f} s")
    cut = "b"
    left = [name for name in NODES if name != cut]
    time.sleep(5)
    ip("link", "set", f"cable-{cut}", "down")
    seconds.append(cluster.wait_for(2, left))
    console.print(f"the cable of node {cut} is cut: the other two train after {seconds[-1]:.0f} s")
    ip("link", "set", f"cable-{cut}", "up")
    seconds.append(cluster.wait_for(3, NODES))
    console.print(f"it is put back: all three train after {seconds[-1]:.0f} s")
    codes = {name: process.wait() for name, process in cluster.processes.items()}
    console.print(f"exit codes: {codes}")
    return max(seconds) <= LIMIT and set(codes.values()) == {0}


def _compare(cluster: Cluster, reference: Path) -> bool:
    """The losses with those of one process, and the run with the tables."""
    tables = [node.folder / "artifacts/train/steps.csv" for node in cluster.nodes.values()]
    (written,) = (table for table in tables if table.exists())
    found, expected = (pd.read_csv(path)["train_nats_per_char"] for path in (written, reference / tables[0].relative_to(
        cluster.nodes["a"].folder)))  # fmt: skip
    difference = float(((found - expected).abs() / expected).max())
    console.print(f"{len(found)} steps, largest relative difference {difference:.1e} (limit {MAX_DIFFERENCE:g})")
    summary, project = read_summary(cluster.folder), written.parents[2]
    is_one = summary.of_checkpoints() == expected_summary(project).of_checkpoints()
    console.print(f"MLflow: {len(summary.statuses)} run, {summary.num_doubled} points twice; complete: {is_one}")
    return len(found) == len(expected) and difference <= MAX_DIFFERENCE and is_one


if __name__ == "__main__":
    sys.exit(guarded(main))
