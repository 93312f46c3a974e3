"""A page in a real browser, without a window."""

import shutil
import subprocess
from pathlib import Path

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
]
OPTIONS += [
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1300,2000",
]
OPTIONS += [
    "--disable-features=IsolateSandboxedIframes"
]  # a frame's own process would have its own clock


def dom_of(page: Path, milliseconds: int | None = 2000) -> str:
    """The document of a local file after its scripts have run; a screenshot is left next to it.

    The scripts have `milliseconds` of a clock that runs as fast as they do, or until the page is loaded and a real one.
    """
    assert CHROMIUM is not None
    clock = [] if milliseconds is None else [f"--virtual-time-budget={milliseconds}"]
    common = [CHROMIUM, *OPTIONS, f"--user-data-dir={page.parent / 'profile'}", *clock]
    picture = f"--screenshot={page.with_suffix('.png')}"
    subprocess.run([*common, picture, page.as_uri()], capture_output=True, timeout=180, check=True)
    done = subprocess.run(
        [*common, "--dump-dom", page.as_uri()], capture_output=True, timeout=180, check=True
    )
    return done.stdout.decode("utf-8")
