"""Which version is the champion, in a real store."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from registries import model_event

from charlstm.evaluation.blocks import BLOCKS, Blocks
from charlstm.history import write_csv
from charlstm.tracking.registered_model import is_better, promote, register

TEXT, OTHER_TEXT = "a" * 64, "b" * 64


@pytest.fixture
def client(tmp_path: Path, blank_store: Path) -> Any:  # noqa: ANN401  # MLflow's client has no annotations
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{shutil.copy(blank_store, tmp_path)}")
    client.create_experiment("tests", tmp_path.as_uri())
    return client


def add(client: Any, name: str, losses: dict[str, float], text: str = TEXT) -> str:  # noqa: ANN401
    """A version whose model is called `name` and has no files; its number."""
    found = client.search_logged_models(["1"], f"tags.called = '{name}'")
    model = found[0] if found else client.create_logged_model("1", "charlstm", None, {"called": name})
    run_id = str(client.create_run("1").info.run_id)
    return register(client, run_id, model.model_id, "", model_event(name, losses, text, {}))


def champion(client: Any) -> str:  # noqa: ANN401
    return str(client.get_model_version_by_alias("charlstm", "champion").version)


def test_the_champion_has_the_lowest_loss_on_one_text(client: Any) -> None:  # noqa: ANN401
    history = []
    for name, losses, text in (
        ("first", {"windowed_256": 1.6}, TEXT),
        ("worse", {"windowed_256": 1.7}, TEXT),
        ("equal", {"windowed_256": 1.6}, TEXT),
        ("another text", {"windowed_256": 1.1}, OTHER_TEXT),
        ("another protocol", {"stateful": 1.1}, TEXT),
        ("no number", {"windowed_256": float("nan")}, TEXT),
        ("better", {"windowed_256": 1.5, "stateful": 9.0}, TEXT),
        ("better by its second protocol", {"windowed_256": 1.6, "stateful": 1.0}, TEXT),
        ("best", {"windowed_256": 1.4}, TEXT),
    ):
        add(client, name, losses, text)
        history.append(champion(client))
    assert history == ["1", "1", "1", "1", "1", "1", "7", "7", "9"]


@pytest.mark.parametrize(
    ("challenger", "champion", "expected"),
    [
        ({"windowed_256": 1, "stateful": 9}, {"windowed_256": 2, "stateful": 8}, True),
        ({"stateful": 1, "windowed_100": 9}, {"stateful": 2, "windowed_100": 8}, True),
        ({"windowed_100": 1, "sliding_100": 9}, {"windowed_100": 2, "sliding_100": 8}, True),
        ({"sliding_100": 1, "windowed_256": 9}, {"sliding_100": 2}, True),
        ({"sliding_100": 2}, {"sliding_100": 2}, False),
        ({"dynamic": 1}, {"stateful": 2}, False),
        ({}, {}, False),
        ({"stateful": 2}, {"stateful": float("nan")}, True),
        ({"stateful": float("nan")}, {"stateful": 2}, False),
    ],
)
def test_one_protocol_that_both_have_decides(
    challenger: dict[str, float], champion: dict[str, float], expected: bool
) -> None:
    def tags(losses: dict[str, float], text: str) -> dict[str, str]:
        return {"validation_sha256": text} | {f"{name}/nats_per_char": repr(loss) for name, loss in losses.items()}

    assert is_better(tags(challenger, TEXT), tags(champion, TEXT)) is expected
    assert not is_better(tags(challenger, OTHER_TEXT), tags(champion, TEXT))


def test_a_model_that_is_measured_again_keeps_its_version(client: Any) -> None:  # noqa: ANN401
    assert add(client, "one", {"stateful": 1.5}) == add(client, "one", {"windowed_20": 1.6}) == "1"
    version = client.get_model_version("charlstm", "1")
    assert version.description.startswith("1.5000 (stateful), 1.6000 (windowed_20) nats per character of the")
    add(client, "one", {"windowed_20": 1.7}, OTHER_TEXT)
    version = client.get_model_version("charlstm", "1")
    assert {name for name in version.tags if name.endswith("/nats_per_char")} == {"windowed_20/nats_per_char"}
    assert version.tags["validation_sha256"] == OTHER_TEXT
    assert version.description.startswith("1.7000 (windowed_20) nats per character of the")


def test_a_version_that_a_person_excluded_is_never_champion(client: Any) -> None:  # noqa: ANN401
    add(client, "good", {"stateful": 1.5})
    add(client, "copies its text", {"stateful": 1.0})
    client.set_model_version_tag("charlstm", "2", "champion", "no")
    promote(client, "charlstm", "1")
    assert champion(client) == "1"
    add(client, "better", {"stateful": 1.4})
    assert champion(client) == "3"


class Overtaken:
    """A real client in whose way another process promotes a version, just before it sets the alias itself."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401
        self._client, self.has_been = client, False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "set_registered_model_alias" and not self.has_been:
            self.has_been = True
            add(self._client, "other process", {"stateful": 1.2})
            assert champion(self._client) == "3"
        return getattr(self._client, name)


def test_of_two_processes_that_promote_at_once_the_better_model_wins(client: Any) -> None:  # noqa: ANN401
    add(client, "first", {"stateful": 1.5})
    overtaken = Overtaken(client)
    add(overtaken, "this process", {"stateful": 1.3})
    assert overtaken.has_been
    assert champion(client) == "3"


def add_with_blocks(client: Any, name: str, windowed: float, nats_K: NDArray[np.float64], folder: Path) -> str:  # noqa: ANN401
    """A version whose run has a table of blocks; its number."""
    model = client.create_logged_model("1", "charlstm", None, {"called": name})
    run_id = str(client.create_run("1").info.run_id)
    folder.mkdir()
    table = Blocks(np.arange(len(nats_K)) * 500, np.full(len(nats_K), 500), nats_K * 500)
    write_csv(folder / BLOCKS, pd.DataFrame(table._asdict()))
    client.log_artifact(run_id, str(folder / BLOCKS), "evaluate")
    return register(client, run_id, model.model_id, "", model_event(name, {"windowed_256": windowed}, TEXT, {}))


def test_a_champion_says_how_sure_its_lead_is(client: Any, tmp_path: Path) -> None:  # noqa: ANN401
    generator = np.random.default_rng(0)
    text_K = generator.normal(1.5, 0.2, 100)
    noise_K = generator.normal(0, 0.01, (2, 100))
    noise_K -= noise_K.mean(1, keepdims=True)
    for number, (windowed, nats_K) in enumerate(
        [
            (1.5000, text_K),
            (1.4990, text_K + noise_K[0] - 0.0001),  # by less than blocks differ
            (1.4000, text_K + noise_K[1] - 0.1),
            (1.4500, text_K),  # no champion
            (1.3990, text_K + 0.2),  # better by the protocol that decides, and worse by that of the blocks
        ],
        start=1,
    ):
        assert add_with_blocks(client, str(number), windowed, nats_K, tmp_path / str(number)) == str(number)
    assert champion(client) == "5"
    leads = {number: client.get_model_version("charlstm", number).tags.get("lead", "") for number in "12345"}
    assert leads["1"] == leads["4"] == ""
    assert re.fullmatch(
        r"0\.0001 ± 0\.00\d\d nats per character lower than version 1 by stateful: within what this text can tell",
        leads["2"],
    )
    assert re.fullmatch(
        r"0\.0999 ± 0\.00\d\d nats per character lower than version 2 by stateful: more than this text explains; "
        "seeds may",
        leads["3"],
    )
    assert leads["5"].startswith("0.3000 ± 0.00") and " higher than version 3 by stateful: more than" in leads["5"]


def test_a_champion_without_blocks_to_compare_says_nothing(client: Any, tmp_path: Path) -> None:  # noqa: ANN401
    add(client, "older", {"windowed_256": 1.6})
    ahead = add_with_blocks(client, "newer", 1.5, np.full(100, 1.5), tmp_path / "newer")
    client.delete_run(client.get_model_version("charlstm", ahead).run_id)
    damaged = add_with_blocks(client, "damaged", 1.4, np.full(100, np.nan), tmp_path / "damaged")
    short = add_with_blocks(client, "short", 1.3, np.full(19, 1.3), tmp_path / "short")
    shorter = add_with_blocks(client, "shorter", 1.2, np.full(19, 1.2), tmp_path / "shorter")
    assert champion(client) == shorter
    for version in (ahead, damaged, short, shorter):
        assert "lead" not in client.get_model_version("charlstm", version).tags
