from pathlib import Path

import pytest

from pipeline.common.stage import code_of_all


@pytest.mark.parametrize(
    ("left", "code"),
    [
        ({}, None),
        ({"0-0": "75", "0-1": "75"}, 75),
        ({"0-0": "2", "0-1": "75"}, 2),  # one fails, the other loses contact with it
        ({"0-0": "75", "0-1": "1"}, 1),
        ({"0-0": "2", "1-0": "75", "1-1": "75"}, 75),  # of the last start
        ({"0-0": "2", "1-1": ""}, None),  # killed while it wrote
        ({"9-0": "2", "10-0": "75"}, 75),
    ],
)
def test_the_reason_is_found_among_the_codes(tmp_path: Path, left: dict[str, str], code: int | None) -> None:
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    assert code_of_all(tmp_path) == code
