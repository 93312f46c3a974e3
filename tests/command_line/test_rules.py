"""The table of rules in docs/data.md is made from `pipeline/new/rules.py`."""

import re

from pipeline.new import rules
from tests.support.documented import PAGES
from tests.support.projects import ROOT


def test_the_page_has_the_rules() -> None:
    source = (ROOT / "pipeline/new/rules.py").read_text()
    rows = re.findall(r"^([A-Z_]+) = .*  # (.+)$", source, re.MULTILINE)
    table = "".join(
        f"| `{name}` | {getattr(rules, name)!r} | {meaning} |\n" for name, meaning in rows
    )
    assert len(rows) > 30 and f"|---|---|---|\n{table}\n" in PAGES["docs/data.md"], table
