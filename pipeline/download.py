"""Stage download: source -> corpus."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ChecksumError, DownloadError
from charlstm.params import DownloadParams, Params
from charlstm.storage.checksums import read_sums, sums_of, write_sums
from charlstm.storage.files import sha256
from charlstm.storage.urls import without_credentials
from charlstm.text.download import FallbackSource, download, local_path
from pipeline.common import stage
from pipeline.common.paths import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus. CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash.

    A file that no download wrote is never overwritten: it may be the only copy of somebody's text.
    """
    section = params.download
    check_source(section.source, paths)
    check_replaceable(paths.corpus, section)
    origin = download(
        paths.corpus,
        section.source,
        section.sha256,
        mirror=os.environ.get("CHARLSTM_MIRROR"),
        fallback=FallbackSource(**section.fallback.model_dump()) if section.fallback else None,
        show_progress=sys.stderr.isatty(),
    )
    write_sums(sums_of(paths.corpus), [paths.corpus.name])
    log.info("%s: %d bytes from %s", paths.corpus, paths.corpus.stat().st_size, without_credentials(origin))


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads.

    Raises:
        DownloadError: `source` is in an output.
    """
    path = local_path(source)
    if path is None:
        return
    for output in (sums_of(paths.corpus), *dict(paths).values()):
        # As written and as resolved: either may be a symbolic link, to a cache or to another disk.
        if path.absolute().is_relative_to(output.absolute()) or path.resolve().is_relative_to(output.resolve()):
            raise DownloadError(
                f"download.source: expected a file outside of what the pipeline writes, got {path}, which is in the "
                f"output {output} and would be overwritten: move it elsewhere and name that place"
            )


def check_replaceable(corpus: Path, section: DownloadParams) -> None:
    """What lies where the corpus goes is a corpus that this stage wrote, or one with the bytes that it would write.

    Raises:
        DownloadError: it is another file.
    """
    if not corpus.exists():
        return
    replaceable = {section.sha256, section.fallback.sha256 if section.fallback else None}
    sums = sums_of(corpus)
    with contextlib.suppress(ChecksumError):  # without checksums, nothing vouches for the file
        replaceable.add(read_sums(sums).get(corpus.name))
    if not corpus.is_file() or sha256(corpus) not in replaceable:
        raise DownloadError(
            f"{corpus}: expected no file, or the one that {sums.name} names, found another, which is left as it is: "
            f"move it elsewhere, and if it is the text to train on, name that place as download.source"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
