"""How busy each machine is, as the run has it: of one machine, and of two."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from servers import free_port

from benchmarks.projects import PYTHON, write_params

EVERY_SECOND = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1", "OMP_NUM_THREADS": "1"}


def system_metrics(project: Path) -> set[str]:
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        assert store.execute("select status from runs").fetchall() == [("FINISHED",)]
        return {row[0] for row in store.execute("select distinct key from metrics where key like 'system/%'")}


@pytest.mark.slow
@pytest.mark.parametrize("num_nodes", [1, 2])
def test_a_run_says_how_busy_each_machine_is(num_nodes: int, encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"train.epochs": 60, "train.early_stopping_epochs": None, "model.hidden_size": 64})
    place = ["--nnodes", str(num_nodes), "--nproc_per_node", "1", "--rdzv-backend", "static"]
    place += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    nodes = [
        subprocess.Popen(
            [*PYTHON, "torch.distributed.run", *place, "--node_rank", str(rank), "-m", "pipeline.train"],
            cwd=project, env={**os.environ, **EVERY_SECOND},
        )
        for rank in range(num_nodes)
    ]  # fmt: skip
    assert [node.wait(timeout=300) for node in nodes] == num_nodes * [0]
    found = system_metrics(project)
    for node in ["", "node-1/"][:num_nodes]:
        assert f"system/{node}cpu_utilization_percentage" in found
        assert f"system/{node}system_memory_usage_megabytes" in found
    assert list((project / ".charlstm/tracking").glob("*/events.jsonl")) == []
