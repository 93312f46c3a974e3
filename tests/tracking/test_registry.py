"""Which version is the champion, in a real store."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from charlstm.tracking.registered_model import LoggedModel, is_better, register

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
    return register(client, run_id, model.model_id, "", LoggedModel(Path(), name, losses, text, {}))


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
    add(client, "better", {"stateful": 1.4})
    assert champion(client) == "3"
