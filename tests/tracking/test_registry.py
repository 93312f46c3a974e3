"""The champion among a registered model's versions, in a real store."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from charlstm.tracking.registered_model import LoggedModel, register

TEXT = "a" * 64
OTHER_TEXT = "b" * 64


@pytest.fixture
def client(tmp_path: Path, blank_store: Path) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{shutil.copy(blank_store, tmp_path)}")
    client.create_experiment("tests", tmp_path.as_uri())
    return client


def add(client: Any, name: str, losses: dict[str, float], text: str = TEXT) -> str:
    """Register a version of a model without files. Return the version's number."""
    found = client.search_logged_models(["1"], f"tags.called = '{name}'")
    model = found[0] if found else None
    if model is None:
        model = client.create_logged_model("1", "charlstm", None, {"called": name})
    run_id = str(client.create_run("1").info.run_id)
    return register(client, run_id, model.model_id, "", LoggedModel(Path(), name, losses, text))


def champion(client: Any) -> str:
    return str(client.get_model_version_by_alias("charlstm", "champion").version)


def test_the_champion_has_the_lowest_headline_loss_on_one_text(client: Any) -> None:
    history = []
    for name, losses, text in (
        ("first", {"stateful": 1.6}, TEXT),
        ("worse", {"stateful": 1.7, "windowed_256": 1.1}, TEXT),
        ("equal", {"stateful": 1.6}, TEXT),
        ("another text", {"stateful": 1.1}, OTHER_TEXT),
        ("another protocol", {"windowed_256": 1.1}, TEXT),
        ("better", {"stateful": 1.5}, TEXT),
    ):
        add(client, name, losses, text)
        history.append(champion(client))
    assert history == ["1", "1", "1", "1", "1", "6"]


def test_a_version_that_a_person_excluded_is_never_champion(client: Any) -> None:
    add(client, "good", {"stateful": 1.5})
    add(client, "copies its text", {"stateful": 1.0})
    client.set_model_version_tag("charlstm", "2", "champion", "no")
    add(client, "better", {"stateful": 1.4})
    assert champion(client) == "3"
