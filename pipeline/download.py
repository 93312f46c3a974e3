"""Stage download: source -> corpus."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ChecksumError, CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import read_sums, sums_of, write_digests
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams, Params
from charlstm.text.conversion import Form, check_outside, corpus_sha256, files_of, local_path
from charlstm.text.download import download
from charlstm.text.encodings import check_encoding
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import cached, recorded_outputs
from pipeline.provenance.hashes import md5
from pipeline.stage import stage
from pipeline.stage.terminal import progress

log = logging.getLogger("charlstm")

MAX_SHRINKING = 8  # of a source that becomes UTF-8 with LF: UTF-32 with CR LF


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus. CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash.

    A file that no download wrote is never overwritten: it may be the only copy of somebody's text.
    """
    section = params.download
    form = Form(check_encoding(section.encoding), section.newlines, section.separator)
    check_source(section.source, paths)
    there, source = check_replaceable(paths.corpus, section, form), local_path(section.source)
    if there and there == section.sha256 and form.keeps_bytes and (source is None or not source.exists()):
        write_digests(sums_of(paths.corpus), {paths.corpus.name: there})
        log.info("%s is there already, with the expected SHA-256", paths.corpus)
        return
    done = download(
        paths.corpus,
        section.source,
        section.sha256,
        form=form,
        mirror=os.environ.get("CHARLSTM_MIRROR"),
        fallback=section.fallback,
        show_progress=sys.stderr.isatty(),
        progress=progress,
    )
    write_digests(sums_of(paths.corpus), {paths.corpus.name: done.sha256})
    log.info("%s: %d bytes from %s", paths.corpus, paths.corpus.stat().st_size, without_credentials(done.origin))


def check_source(source: str, paths: Paths) -> None:
    """No stage may overwrite or delete what this one reads, nor may it read what a stage writes.

    Raises:
        CorpusError: one of both would be.
    """
    path = local_path(source)
    if path is None:
        return
    try:
        path.resolve()
    except (OSError, RuntimeError):  # Python 3.13 has the former
        raise CorpusError(f"download.source: {path} is a loop of symbolic links") from None
    for output in (sums_of(paths.corpus), *dict(paths).values()):
        try:
            check_outside(path, output)
        except CorpusError as error:
            raise CorpusError(f"download.source: {error}") from None


def check_replaceable(corpus: Path, section: DownloadParams, form: Form) -> str:
    """What lies where the corpus goes has the bytes that this stage would write, or DVC knows that the stage wrote it.

    Returns its SHA-256; nothing, if nothing is there.

    Raises:
        CorpusError: it is another file, or beside it is one that is no checksum of ours.
    """
    sums, named = sums_of(corpus), dict[str, str]()
    with contextlib.suppress(ChecksumError):  # missing or damaged
        named = read_sums(sums)
    if set(named) - {corpus.name}:
        raise CorpusError(
            f"{sums}: expected no file, or the checksum of {corpus.name} alone, found those of other files, too: "
            f"it is left as it is; move it elsewhere"
        )
    if not corpus.exists():
        return ""
    found = sha256(corpus) if corpus.is_file() else ""
    if not found or not (
        _is_known_to_dvc(corpus, is_named=named.get(corpus.name) == found)
        or _is_what_comes(corpus, found, section, form)
    ):
        raise CorpusError(
            f"{corpus}: expected no file, or one that DVC has kept of this stage, found another, which is left as it "
            f"is: move it elsewhere, and if it is the text to train on, name that place as download.source"
        )
    return found


def _is_what_comes(corpus: Path, found: str, section: DownloadParams, form: Form) -> bool:
    """Whether the stage would write these very bytes, as far as that is known before a server is asked.

    A source that is far larger cannot become them, and is not read: nobody waits for the hash of a huge text.
    """
    if form.keeps_bytes and found in (section.sha256, section.fallback.sha256 if section.fallback else None):
        return True
    path = local_path(section.source)
    try:
        if path is None:
            return False
        files = files_of(path)
        num_bytes = sum(file.stat().st_size for file in files)
        return num_bytes <= MAX_SHRINKING * corpus.stat().st_size and found == corpus_sha256(files, form)
    except (OSError, LookupError, ValueError, CorpusError):  # which the stage says itself, or the doctor
        return False


def _is_known_to_dvc(corpus: Path, *, is_named: bool) -> bool:
    """Whether `dvc.lock` has these bytes as this output; or DVC's cache has them and a checksum beside names them.

    Anybody may have a text with a file of `sha256sum` beside it. Only what DVC has a record of is not the only copy.
    """
    digest = md5(corpus)
    return recorded_outputs("download").get(corpus) == digest or (is_named and cached(digest) is not None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
