"""Stage download: source -> corpus."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from charlstm.errors import ChecksumError, CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import read_sums, sums_of, write_digests
from charlstm.files.pieces import read_pieces, write_pieces
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams, Params
from charlstm.text.conversion import Form, check_outside, local_path
from charlstm.text.download import download
from charlstm.text.encodings import check_encoding
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import cached, is_of_these_parameters, recorded_outputs
from pipeline.provenance.git import git
from pipeline.provenance.hashes import md5
from pipeline.stage import stage
from pipeline.stage.project import LOCK
from pipeline.stage.tracking_store import project_root

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus.

    CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash. CHARLSTM_FALLBACK=1: if nothing has the text, take
    its fallback.

    A file that no download wrote is never overwritten: it may be the only copy of somebody's text.
    """
    section, corpus, sums = params.download, paths.corpus, sums_of(paths.corpus)
    check_source(section.source, paths)
    check_sums(sums, corpus)

    def check_replaceable(new: str) -> None:
        # DVC knows what this stage wrote. Its cache also has what earlier ones wrote, so nothing is lost.
        if not corpus.exists() or sha256(corpus) == new:
            return
        digest = md5(corpus)
        if recorded_outputs("download").get(corpus) != digest and cached(digest) is None:
            raise CorpusError(
                f"{corpus}: expected no file, or one that DVC has kept of this stage, found another, which is left as "
                f"it is: move it elsewhere, and if it is the text to train on, name that place as download.source"
            )

    if (kept := kept_text(section, paths)) is not None:
        if kept != corpus:
            write_pieces(corpus, read_pieces(kept), check_replaceable)
        write_digests(sums, {corpus.name: sha256(corpus)})
        log.info("%s: taken as it is %s", corpus, "there already" if kept == corpus else "in DVC's cache")
        return
    origin = download(
        corpus,
        section.source,
        section.sha256,
        form=_form(section),
        mirror=mirror(),
        fallback=section.fallback,
        is_fallback_asked_for=os.environ.get("CHARLSTM_FALLBACK") == "1",
        check=check_replaceable,
    )
    write_digests(sums, {corpus.name: sha256(corpus)})
    log.info("%s: %d bytes from %s", corpus, corpus.stat().st_size, without_credentials(origin))


def mirror() -> str | None:
    """CHARLSTM_MIRROR; if it is not set, the folder `shared/datasets` beside the checkout, if there is one."""
    folder = project_root().parent / "shared/datasets"
    return os.environ.get("CHARLSTM_MIRROR", str(folder) if folder.is_dir() else None)


def kept_text(section: DownloadParams, paths: Paths) -> Path | None:
    """The corpus as it is there, or in DVC's cache, if it is the one that the parameters name; its source is not asked.

    It has the expected SHA-256, or it is what DVC has recorded of these parameters, as after `dvc pull`. A source on
    this machine is read anew.
    """
    corpus, source = paths.corpus, local_path(section.source)
    if source is not None and source.exists():
        return None
    if section.sha256 is not None and _form(section).keeps_bytes:
        return next((file for file in _kept(corpus) if sha256(file) == section.sha256), None)
    recorded = recorded_outputs("download").get(corpus, "")
    if (source is None and section.sha256 is None) or not is_of_these_parameters("download", but="watch"):
        return None
    return corpus if corpus.is_file() and md5(corpus) == recorded else cached(recorded)


def _kept(corpus: Path) -> Iterator[Path]:
    """The corpus, and what DVC's cache has of those that `dvc.lock` names, here or in a commit."""
    if corpus.is_file():
        yield corpus
    digests = [recorded_outputs("download").get(corpus, "")]
    commits = (git("rev-list", "--all", "--", str(LOCK)) or "").split()
    if commits:
        lines = git("grep", "-h", "--fixed-strings", "-A2", f"path: {corpus}", *commits, "--", str(LOCK)) or ""
        digests += re.findall(r"md5: ([0-9a-f]{32})$", lines, re.MULTILINE)
    yield from (file for digest in dict.fromkeys(digests) if (file := cached(digest)) is not None)


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads, nor may it read what a stage writes.

    Raises:
        CorpusError: one of both would be.
    """
    if (path := local_path(source)) is not None:
        for output in (sums_of(paths.corpus), *dict(paths).values()):
            check_outside(path, output)


def check_sums(sums: Path, corpus: Path) -> None:
    """The checksum file is absent, or as this stage writes it.

    Raises:
        CorpusError: it has something else, which would be lost.
    """
    if not os.path.lexists(sums):
        return
    try:
        if read_sums(sums).keys() == {corpus.name}:
            return
    except ChecksumError:
        pass
    raise CorpusError(
        f"{sums}: expected no file, or the checksum of {corpus.name} alone, found something else, which is left as it "
        f"is: move it elsewhere"
    )


def _form(section: DownloadParams) -> Form:
    return Form(check_encoding(section.encoding), section.newlines, section.separator)


if __name__ == "__main__":
    sys.exit(stage.run(run))
