"""Pages in a real browser without a window."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
# A frame in its own process would have its own clock.
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    "--disable-features=IsolateSandboxedIframes",
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium, e.g. `apt-get install chromium`"
)


def dom_of(url: str, folder: Path, milliseconds: int | None = 2000, size: str = "1300,2000") -> str:
    """Return a page's document after its scripts have run. Write `page.png` to `folder`.

    The scripts run for `milliseconds` of virtual time. With None, they run in real time until the
    page is loaded.
    """
    assert CHROMIUM is not None
    common = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={size}"]
    if milliseconds is not None:
        common.append(f"--virtual-time-budget={milliseconds}")

    def run(option: str) -> bytes:
        command = [*common, option, url]
        return subprocess.run(command, capture_output=True, timeout=180, check=True).stdout

    run(f"--screenshot={folder / 'page.png'}")
    return run("--dump-dom").decode("utf-8")
