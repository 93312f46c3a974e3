"""A bar for what takes long, on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from charlstm.storage.pieces import Advance

DELAY_SECONDS = 2  # what is done by then needs no bar


@contextmanager
def progress(what: str, total: int, unit: str = "B") -> Iterator[Advance]:
    """Yields what is to be told of bytes, or of another unit, that are done."""
    with tqdm(
        desc=what, total=total, unit=unit, unit_scale=True, delay=DELAY_SECONDS, disable=None, leave=False
    ) as bar:
        yield bar.update
