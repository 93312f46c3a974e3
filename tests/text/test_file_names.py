"""The sample stage's files have ASCII names, which tell prompts apart, whatever the locale."""

from hypothesis import given
from hypothesis import strategies as st

from charlstm.report.collect import SampleRow, file_name


def of_prompt(prompt: str) -> SampleRow:
    return SampleRow(prompt, 0.8, None, 1.0, 0.0, 1, "")


@given(st.text(min_size=1))
def test_names_are_ascii_and_short(prompt: str) -> None:
    name = file_name(0, of_prompt(prompt))
    assert name.isascii() and "/" not in name and len(name) < 60
    assert name.isprintable()
