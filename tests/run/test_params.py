"""Parameters: strict, in YAML 1.2, with all mistakes in one line."""

import re
from pathlib import Path

import pytest

from charlstm.errors import ParamsError
from charlstm.params import Params, load_params
from pipeline.recipes import with_values
from tests.support.projects import ROOT, shipped_params

SHIPPED = shipped_params()


def load(tmp_path: Path, content: str) -> Params:
    (tmp_path / "params.yaml").write_text(content)
    return load_params(tmp_path / "params.yaml")


def test_the_shipped_file_is_valid_and_frozen(tmp_path: Path) -> None:
    load_params(ROOT / "params.yaml")  # whatever its values are now
    params = load(tmp_path, SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        params.train.seed = 2
    flat = params.flat()
    assert flat["train.dropout.style"] == "locked"
    assert flat["sample.prompts"] == '["\\n", "ROMEO:", "To be, or not to be"]'
    assert all(isinstance(value, str | int | float) for value in flat.values())


def replaced(text: str, key: str, line: str) -> str:
    """Return the text with the first value of `key` replaced by `line`."""
    changed, count = re.subn(rf"(?m)^(\s+){key}: .*$", rf"\g<1>{line}", text, count=1)
    assert count == 1
    return changed


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = replaced(SHIPPED, "weight_decay", "weight_decay: 4e-3")
    assert load(tmp_path, text).train.weight_decay == 0.004


def test_all_mistakes_are_told_at_once_by_name(tmp_path: Path) -> None:
    text = replaced(SHIPPED, "batch_size", "batch_sise: 32")
    text = replaced(text, "epochs", "epochs: -1")
    text = replaced(text, "hidden_size", "hidden_size: 512.5")
    text = replaced(text, "top_p", "top_p: 1.5")
    text = replaced(text, "source", "source: https://host/text?token=hunter2")
    text = with_values(text, {"sample.temperatures": 0.8, "sample.seeds": [1, "2"]})
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    for part in (
        "train.batch_size is missing",
        "train.batch_sise is not a parameter, did you mean train.batch_size?",
        "train.epochs should be greater than 0, got -1",
        "model.hidden_size should be a valid integer, got 512.5",
        "sample.top_p should be less than or equal to 1, got 1.5",
        "sample.temperatures should be a list, got 0.8",
        'sample.seeds.1 should be a valid integer, got "2"',
    ):
        assert part in message
    assert "\n" not in message and "hunter2" not in message
    assert "download.source must not contain a secret" in message


@pytest.mark.parametrize(
    "content", [b"a: 1\nb: [2, 3\nc: 4\n", b"a: 2001-99-99", b"a: 1\na: 2", b"\xff", b""]
)
def test_yaml_that_is_wrong(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
