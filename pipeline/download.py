"""Stage download: source -> corpus."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ChecksumError, DownloadError
from charlstm.params import DownloadParams, Params
from charlstm.storage.checksums import read_sums, sums_of, write_digests
from charlstm.storage.files import sha256
from charlstm.storage.urls import without_credentials
from charlstm.text.conversion import Form
from charlstm.text.download import download
from charlstm.text.encodings import check_encoding
from charlstm.text.fallback import FallbackSource
from charlstm.text.source_files import local_path
from pipeline.common import stage
from pipeline.common.paths import Paths
from pipeline.common.progress import progress

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus. CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash.

    A file that no download wrote is never overwritten: it may be the only copy of somebody's text.
    """
    section = params.download
    form = Form(check_encoding(section.encoding), section.newlines, section.separator)
    check_source(section.source, paths)
    there = check_replaceable(paths.corpus, section, form)
    if there == section.sha256 and form.keeps_bytes and local_path(section.source) is None:
        write_digests(sums_of(paths.corpus), {paths.corpus.name: there})
        log.info("%s is there already, with the expected SHA-256", paths.corpus)
        return
    done = download(
        paths.corpus,
        section.source,
        section.sha256,
        form=form,
        mirror=os.environ.get("CHARLSTM_MIRROR"),
        fallback=FallbackSource(**section.fallback.model_dump()) if section.fallback else None,
        show_progress=sys.stderr.isatty(),
        progress=progress,
    )
    write_digests(sums_of(paths.corpus), {paths.corpus.name: done.sha256})
    log.info("%s: %d bytes from %s", paths.corpus, paths.corpus.stat().st_size, without_credentials(done.origin))


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads, nor may it read what a stage writes.

    Raises:
        DownloadError: one of both would be.
    """
    path = local_path(source)
    if path is None:
        return
    try:
        path.resolve()
    except (OSError, RuntimeError):  # Python 3.13 has the former
        raise DownloadError(f"download.source: {path} is a loop of symbolic links") from None
    for output in (sums_of(paths.corpus), *dict(paths).values()):
        # As written and as resolved: either may be a symbolic link, to a cache or to another disk.
        if path.absolute().is_relative_to(output.absolute()) or path.resolve().is_relative_to(output.resolve()):
            raise DownloadError(
                f"download.source: expected a file outside of what the pipeline writes, got {path}, which is in the "
                f"output {output} and would be overwritten: move it elsewhere and name that place"
            )
        if output.absolute().is_relative_to(path.absolute()) or output.resolve().is_relative_to(path.resolve()):
            raise DownloadError(
                f"download.source: expected a folder of texts alone, got {path}, which has the output {output}: "
                f"move the texts to a folder of their own and name that"
            )


def check_replaceable(corpus: Path, section: DownloadParams, form: Form) -> str:
    """What lies where the corpus goes is a corpus that this stage wrote, or one with the bytes that it would write.

    Returns its SHA-256; nothing, if nothing is there.

    Raises:
        DownloadError: it is another file.
    """
    if not corpus.exists():
        return ""
    replaceable = {section.sha256, section.fallback.sha256 if section.fallback else None} if form.keeps_bytes else set()
    sums = sums_of(corpus)
    with contextlib.suppress(ChecksumError):  # without checksums, nothing vouches for the file
        replaceable.add(read_sums(sums).get(corpus.name))
    found = sha256(corpus) if corpus.is_file() else ""
    if found not in replaceable:
        raise DownloadError(
            f"{corpus}: expected no file, or the one that {sums.name} names, found another, which is left as it is: "
            f"move it elsewhere, and if it is the text to train on, name that place as download.source"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
