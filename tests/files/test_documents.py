"""A mistake in YAML is one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import ParamsError
from charlstm.files.documents import parse_yaml
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
