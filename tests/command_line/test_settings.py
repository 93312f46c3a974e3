"""Settings of the environment have ranges. A wrong value is one line before any work."""

import pytest

from charlstm.errors import ParamsError
from pipeline.run.settings import check_settings, seconds
from tests.support.commands import Run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHARLSTM_TIMEOUT_SECONDS", "1e30"),
        ("CHARLSTM_CHECKPOINT_SECONDS", "nan"),
        ("CHARLSTM_TRACKING_SECONDS", "-1"),
    ],
)
def test_a_value_out_of_its_range_is_a_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=f"^{name}: expected a .{{,200}}$"):
        check_settings()


def test_what_is_in_range_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLSTM_TIMEOUT_SECONDS", " 31536000 ")
    assert seconds("CHARLSTM_TIMEOUT_SECONDS") == 31_536_000
    monkeypatch.delenv("CHARLSTM_TIMEOUT_SECONDS")
    assert seconds("CHARLSTM_TIMEOUT_SECONDS") == 60


def test_a_command_says_it_before_it_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLSTM_TIMEOUT_SECONDS", "1e30")
    code, out, err = run("info", "something")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("ERROR: CHARLSTM_TIMEOUT_SECONDS: ")
