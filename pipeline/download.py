"""Stage download: source -> corpus."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from charlstm.errors import ChecksumError, CorpusError
from charlstm.files.checksums import read_sums, sums_of, write_digests
from charlstm.files.urls import without_credentials
from charlstm.params import Params
from charlstm.text.conversion import Form, check_outside, local_path
from charlstm.text.download import download
from charlstm.text.encodings import check_encoding
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import cached, recorded_outputs
from pipeline.provenance import hashes
from pipeline.stage import stage

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus. CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash.

    A file that no download wrote is never overwritten: it may be the only copy of somebody's text.
    """
    section, corpus, sums = params.download, paths.corpus, sums_of(paths.corpus)
    form = Form(check_encoding(section.encoding), section.newlines, section.separator)
    check_source(section.source, paths)
    with contextlib.suppress(ChecksumError):  # missing, or damaged
        if set(read_sums(sums)) - {corpus.name}:
            raise CorpusError(
                f"{sums}: expected no file, or the checksum of {corpus.name} alone, found those of other files, too: "
                f"it is left as it is; move it elsewhere"
            )
    before, source = hashes.sha256(corpus) if corpus.exists() else "", local_path(section.source)
    if before and before == section.sha256 and form.keeps_bytes and (source is None or not source.exists()):
        write_digests(sums, {corpus.name: before})
        log.info("%s is there already, with the expected SHA-256", corpus)
        return

    def check_replaceable(new: str) -> None:
        # DVC knows what this stage wrote. Its cache also has what earlier ones wrote, so nothing is lost.
        if before in ("", new):
            return
        digest = hashes.md5(corpus)
        if recorded_outputs("download").get(corpus) != digest and cached(digest) is None:
            raise CorpusError(
                f"{corpus}: expected no file, or one that DVC has kept of this stage, found another, which is left as "
                f"it is: move it elsewhere, and if it is the text to train on, name that place as download.source"
            )

    done = download(
        corpus,
        section.source,
        section.sha256,
        form=form,
        mirror=os.environ.get("CHARLSTM_MIRROR"),
        fallback=section.fallback,
        check=check_replaceable,
    )
    write_digests(sums, {corpus.name: done.sha256})
    hashes.remember(corpus, sha256=done.sha256)  # so that the next stage does not read a huge one for it
    log.info("%s: %d bytes from %s", corpus, corpus.stat().st_size, without_credentials(done.origin))


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads, nor may it read what a stage writes.

    Raises:
        CorpusError: one of both would be.
    """
    if (path := local_path(source)) is not None:
        for output in (sums_of(paths.corpus), *dict(paths).values()):
            check_outside(path, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
