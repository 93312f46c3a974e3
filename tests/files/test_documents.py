"""A mistake in YAML is one line; no JSON of somebody else's model hangs, fills the memory or ends in a traceback."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from benchmarks.projects import ROOT
from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml, parse_yaml, read_json
from charlstm.params import load_params

YAML_CASES = {
    "a typo": ("a: 1\nb: [2, 3\nc: 4\n", "not valid YAML: .* line 3, column 2"),
    "no date": ("a: 2001-99-99", "not valid YAML: month must be in 1..12"),
    "no UTF-8": ("\udcff", "expected UTF-8"),
}
JSON_CASES = {
    "deep list": ("[" * 100_000, "nested too deeply"),
    "deep mapping": ('{"a":' * 100_000, "nested too deeply"),
    "5,000 digits": ("9" * 5000, "Exceeds the limit"),
    "NaN": ("NaN", "NaN is not JSON"),
    "no UTF-8": ("\udcff", "expected UTF-8"),
}


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize("name", YAML_CASES)
def test_yaml_that_is_wrong(tmp_path: Path, name: str) -> None:
    content, reason = YAML_CASES[name]
    path = write(tmp_path / "params.yaml", content)
    with pytest.raises(ParamsError, match=reason) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_what_dvc_writes_is_read() -> None:
    lock = ROOT / "dvc.lock"
    assert load_yaml(lock) == YAML(typ="safe", pure=True).load(lock.read_text())


@given(st.text(alphabet="[]{}&*a!<>:?-|'\"#%@`,. \n\t0x19é"))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", JSON_CASES)
def test_json_that_asks_for_too_much(tmp_path: Path, name: str) -> None:
    content, reason = JSON_CASES[name]
    with pytest.raises(ValueError, match=reason):
        read_json(write(tmp_path / "a.json", content))


def test_a_file_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "vocab.json", "")
    os.truncate(path, 2**40)  # as long as it says, and empty
    with pytest.raises(ValueError, match="expected at most 100,000,000 bytes"):
        read_json(path)
