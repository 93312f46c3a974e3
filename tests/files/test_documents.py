"""A mistake in YAML is one line; no JSON of somebody else's model ends in a traceback."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import ParamsError
from charlstm.files.documents import parse_yaml, read_json
from charlstm.params import load_params


@pytest.mark.parametrize("content", [b"a: 1\nb: [2, 3\nc: 4\n", b"a: 2001-99-99", b"a: 1\na: 2", b"\xff", b""])
def test_yaml_that_is_wrong(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@given(st.text(alphabet="[]{}&*a!<>:?-|'\"#%@`,. \n\t0x19é"))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b"{"])
def test_json_that_is_wrong(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match="nested too deeply|Exceeds the limit|can't decode|Expecting"):
        read_json(tmp_path / "a.json")
