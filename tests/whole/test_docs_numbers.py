"""Numbers in the README equal the records and the committed metrics."""

import re
from typing import Any

import pandas as pd
import pytest

from benchmarks.recipes import PROTOCOLS, record_of
from charlstm.files.documents import parse_yaml
from tests.support.documented import README
from tests.support.projects import captured, shipped_params
from tests.support.stages import PUBLISHED_DATA


def committed(path: str) -> Any:
    """Return a committed JSON or YAML file. The working tree may have others, or none."""
    done = captured(["git", "show", f"HEAD:{path}"])
    assert done.returncode == 0, done.stderr
    return parse_yaml(done.stdout)


def test_losses_are_the_committed_ones() -> None:
    """A user's committed experiment has other losses and the same README, so it is skipped."""
    if committed("params.yaml") != parse_yaml(shipped_params()):
        pytest.skip("what is committed is not the default recipe")
    metrics = committed("artifacts/evaluate/metrics.json")
    rows = re.findall(r"^\| `(\w+)` \| \*\*([\d.]+)\*\* \| ([\d.]+) \|", README, re.MULTILINE)
    assert {protocol for protocol, _, _ in rows} == set(metrics)
    for protocol, nats, bits in rows:
        assert nats == f"{metrics[protocol]['nats_per_char']:.4f}"
        assert bits == f"{metrics[protocol]['bits_per_char']:.4f}"
    train = committed("artifacts/train/metrics.json")
    assert f"{train['num_parameters']:,} parameters, {train['num_epochs']} epochs" in README


def test_the_recipes_are_what_their_records_say() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| (\d) \| ([\d,]{6,} (?:\| [^|]+){4}) \|$", README, re.MULTILINE
    )
    assert {recipe for recipe, *_ in rows} == {"quick", "best", "original"}
    for recipe, num_seeds, figures in rows:
        records = [record_of(recipe, seed, PUBLISHED_DATA) for seed in range(1, int(num_seeds) + 1)]
        found = pd.DataFrame([record for record in records if record is not None])
        assert len(found) == int(num_seeds), recipe
        size, seconds, *losses = figures.split(" | ")
        assert size == f"{found['num_parameters'].iloc[0]:,}"
        assert seconds == f"{found['train_seconds'].median():,.0f}"
        for protocol, loss in zip(PROTOCOLS, losses, strict=True):
            mean = f"{found[protocol].mean():.4f}"
            expected = mean if len(found) == 1 else f"{mean} ± {found[protocol].std():.4f}"
            assert loss == expected, (recipe, protocol)
