"""Stage download: source -> corpus."""

import contextlib
import logging
import os
import sys

from charlstm.errors import ChecksumError, CorpusError
from charlstm.files.checksums import read_sums, sums_of, write_digests
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams, Params
from charlstm.text.conversion import Form, check_outside, local_path
from charlstm.text.download import download
from charlstm.text.encodings import check_encoding
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import cached, is_of_these_parameters, recorded_outputs
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
    before = hashes.sha256(corpus) if corpus.exists() else ""
    if is_taken_as_it_is(section, paths):
        write_digests(sums, {corpus.name: before})
        is_expected = before == section.sha256
        log.info(
            "%s is there already, %s", corpus, "with the expected SHA-256" if is_expected else "as dvc.lock has it"
        )
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


def is_taken_as_it_is(section: DownloadParams, paths: Paths) -> bool:
    """Whether the corpus that is there is taken, since its source cannot be read here: another machine's file, or a URL
    that need not be asked.

    It has the expected SHA-256, or it is what DVC has recorded of these parameters, as after `dvc pull`.
    """
    corpus, source = paths.corpus, local_path(section.source)
    if not corpus.is_file() or (source is not None and source.exists()):
        return False
    form = Form(check_encoding(section.encoding), section.newlines, section.separator)
    if section.sha256 is not None and form.keeps_bytes and hashes.sha256(corpus) == section.sha256:
        return True
    is_recorded = recorded_outputs("download").get(corpus) == hashes.md5(corpus)
    return source is not None and is_recorded and is_of_these_parameters("download", but="watch")


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads, nor may it read what a stage writes.

    Raises:
        CorpusError: one of both would be.
    """
    if (path := local_path(source)) is not None:
        for output in (sums_of(paths.corpus), *dict(paths).values()):
            check_outside(path, output)


if __name__ == "__main__":
    sys.exit(stage.run(run))
