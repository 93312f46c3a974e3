"""How busy a machine is while it trains: processor, memory, disk, network and GPUs, by MLflow's own collectors.

MLflow's monitor around them ends for good when a server fails once. Here the samples go to the spool.
"""

import contextlib
import time
from pathlib import Path

from charlstm.tracking.spool import SYSTEM, append_line, now_ms, read_lines


class SystemSampler:
    """Writes a sample to a spool's `system.jsonl` when one is due, as metrics `system/...`, numbered from 0.

    Args:
        node: comes before the names of metrics where there are several machines; empty for one.
    """

    def __init__(self, spool: Path, node: str, seconds_between: float) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(ImportError, RuntimeError):  # no GPU, or no library that can ask it
            self._monitors.append(GPUMonitor())
        self._file, self._prefix = spool / SYSTEM, f"system/{node}/" if node else "system/"
        self._seconds_between = seconds_between
        self._number = sum(1 for _ in read_lines(self._file))
        self._last_at = time.monotonic()
        for monitor in self._monitors:  # the first use of the processor is measured from here
            monitor.collect_metrics()
            monitor.clear_metrics()

    def sample_if_due(self) -> None:
        """Write what was used since the last sample.

        Raises:
            OSError: the disk takes no more.
        """
        now = time.monotonic()
        if now - self._last_at < self._seconds_between:
            return
        self._last_at, time_ms = now, now_ms()
        points = []
        for monitor in self._monitors:
            monitor.collect_metrics()
            found = monitor.aggregate_metrics().items()
            points += [[f"{self._prefix}{name}", float(value), self._number, time_ms] for name, value in found]
            monitor.clear_metrics()
        append_line(self._file, {"kind": "metrics", "time_ms": time_ms, "points": points})
        self._number += 1
