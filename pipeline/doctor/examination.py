"""All checks, in one go: before a run by whoever asks, and before the processes of a training start.

Checks look and change nothing. What takes long (DVC's answer, a server) runs beside the others.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError
from charlstm.params import Params, load_params
from pipeline.doctor import checkout, machine, text
from pipeline.doctor.finding import Finding, error, readable
from pipeline.doctor.text import STAGES, Encoded, is_of_these_parameters, read_encoded, source_bytes
from pipeline.dvc.paths import Paths, load_paths
from pipeline.dvc.record import cache_folder
from pipeline.stage.params_file import PARAMS
from pipeline.stage.presets import in_words

SUBJECTS = ("parameters", "source", "text", "memory", "disk", "tracker", "cores", "versions", "GPU", "folders")
PROMPTS_LATER = "; prompts are checked once the text is encoded, before training"


class Examination(NamedTuple):
    """Which parameters these are, what was found, what was looked at, and what could not be yet."""

    parameters: str  # `corpus tiny-shakespeare, recipe quick · epochs 3`; empty where they cannot be read
    findings: list[Finding]
    subjects: tuple[str, ...]
    later: str


def examine(find_cache: Callable[[], Path] = cache_folder) -> Examination:
    """All that can be found out before `dvc repro`, errors first. `find_cache` has the folder of DVC's cache."""
    from pipeline.doctor import checkout, machine, text

    encoded = None
    with ThreadPoolExecutor() as beside:
        cache, tracked = beside.submit(find_cache), beside.submit(lambda: list(readable(checkout.check_tracker())))
        params, paths, found = _read()
        found += readable(machine.check_cores(params))  # early: what follows keeps one busy
        found += readable(machine.check_versions())
        if params is not None and paths is not None:
            encoded = read_encoded(paths) if is_of_these_parameters(*STAGES) else None
            found += readable(text.check_text_source(params, paths))
            found += _of_parameters(params, encoded, source_bytes(params, paths))
        found += chain(
            readable(checkout.check_folders()), readable(checkout.check_settings()), readable(machine.check_gpu())
        )
        found += readable(checkout.check_cache(cache.result()))
        found += tracked.result()
    findings = sorted(found, key=lambda one: not one.is_error)
    subjects, later = (SUBJECTS, PROMPTS_LATER) if encoded is None else ((*SUBJECTS, "prompts"), "")
    return Examination(in_words(params.values()) if params else "", findings, subjects, later)


def examine_training() -> list[Finding]:
    """What decides whether a training can start now, on encoded text that DVC has just looked at.

    A mistake that only a later stage would notice is one of them: it is cheaper to mend now.
    """
    params, paths, found = _read()
    if params is not None and paths is not None:
        found += (one for one in _of_parameters(params, read_encoded(paths), None) if one.is_error)
    found += chain(readable(checkout.check_settings()), readable(machine.check_cores(params)))
    return sorted(found, key=lambda one: not one.is_error)


def _of_parameters(params: Params, encoded: Encoded | None, num_bytes: int | None) -> list[Finding]:
    checks: tuple[Iterator[Finding], ...] = (
        checkout.check_parameters(params),
        text.check_length(params, encoded, num_bytes),
        text.check_all_prompts(params, encoded),
        machine.check_host_memory(params, encoded),
        machine.check_disk(params, encoded, num_bytes),
    )
    return [finding for check in checks for finding in readable(check)]


def _read() -> tuple[Params | None, Paths | None, list[Finding]]:
    """What the files say, or what is wrong with them."""
    found: list[Finding] = []
    params, paths = None, None
    try:
        found += checkout.schema_faults()
        if not found:
            params = load_params(PARAMS)
        paths = load_paths(Path("dvc.yaml"))
    except CharlstmError as refusal:
        if str(refusal) not in [one.text for one in found]:
            found.append(error(str(refusal)))
    return params, paths, found
