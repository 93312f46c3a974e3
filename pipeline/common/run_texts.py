"""Generated texts as an MLflow run has them: one file to read, and one table that the UI lays beside that of others."""

from collections.abc import Sequence

import pandas as pd

from charlstm.tracking.review.collect import Generated
from pipeline.common.terminal import printable


def text_of_all(texts: Sequence[Generated]) -> str:
    """All of them as one, to read from top to bottom."""
    return "\n".join(f"=== {_title(one)}\n{one.prompt}{one.text}\n" for one in texts)


def side_by_side(texts: Sequence[Generated]) -> pd.DataFrame:
    """A row a text. MLflow's side-by-side view groups by the first column, and compares the column `output`.

    A cell may not turn the direction of the text around it, so control characters are spelled out.
    """
    rows = [
        {
            "sample": printable(_title(one)),
            "prompt": printable(one.prompt),
            "temperature": one.temperature,
            "top_k": one.top_k,
            "top_p": one.top_p,
            "seed": one.seed,
            "output": printable(one.text),
        }
        for one in texts
    ]
    return pd.DataFrame(rows)


def _title(text: Generated) -> str:
    return f"{text.prompt!r} · temperature {text.temperature} · seed {text.seed}"
