"""How busy a machine is while it trains: processor, memory, disk, network and GPUs, by MLflow's own collectors.

MLflow's monitor around them ends for good when a server fails once. Here the samples go to the spool.
"""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from charlstm.tracking.outbox import append_event, last_steps, now_ms, start_of

log = logging.getLogger(__name__)


PREFIX = "system/"


class Samples:
    """Samples in a spool, as metrics `system/...`, numbered from 0, if its start asks for them.

    The start's `node` comes before the names where there are several machines.
    """

    def __init__(self, folder: Path, seconds_between: float) -> None:
        self._folder, self._seconds_between = folder, seconds_between
        self._monitors: list[Any] = []
        self._is_wanted = True

    def take_if_due(self) -> None:
        """Write what was used since the last sample, if that was long ago."""
        try:
            if self._is_wanted and not self._monitors:
                self._begin()
            elif self._is_wanted and time.monotonic() - self._last_at >= self._seconds_between:
                self._take()
        except Exception as error:  # a driver or a disk may fail in any way, and training goes on
            log.warning("no more system metrics: %s", error)
            self._is_wanted = False

    def _begin(self) -> None:
        if (start := start_of(self._folder)) is None:
            return
        if start.node is None:
            self._is_wanted = False
            return
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(ImportError, RuntimeError):  # no GPU, or no library that can ask it
            self._monitors.append(GPUMonitor())
        self._prefix = f"{PREFIX}{start.node}/" if start.node else PREFIX
        steps = [step for name, step in last_steps(self._folder).items() if name.startswith(self._prefix)]
        self._number = max(steps, default=-1) + 1
        self._last_at = time.monotonic()
        for monitor in self._monitors:  # the first use of the processor is measured from here
            monitor.collect_metrics()
            monitor.clear_metrics()

    def _take(self) -> None:
        self._last_at, time_ms, points = time.monotonic(), now_ms(), []
        for monitor in self._monitors:
            monitor.collect_metrics()
            values = monitor.aggregate_metrics().items()
            points += [[f"{self._prefix}{name}", float(value), self._number, time_ms] for name, value in values]
            monitor.clear_metrics()
        append_event(self._folder, "metrics", points=points)
        self._number += 1
