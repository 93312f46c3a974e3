"""Stage download: source -> corpus."""

import hashlib
import logging
import os
from pathlib import Path

from charlstm.corpus.encodings import Form, check_encoding
from charlstm.corpus.fetch import check_outside, download, local_path
from charlstm.errors import CorpusError
from charlstm.files.atomic import read_pieces, write_pieces
from charlstm.files.checksums import digest_lines, sha256, sums_of, write_digests
from charlstm.files.documents import load_yaml
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams
from pipeline.run.dvc import cached, md5, read_lock
from pipeline.run.preflight import check_text
from pipeline.run.project import PARAMS, project_root
from pipeline.run.stage import Stage

log = logging.getLogger("charlstm")


def run(stage: Stage) -> None:
    """Fetch and verify the corpus. Never overwrite a file that may be the user's only copy."""
    params = stage.params
    paths = stage.paths
    section = params.download
    corpus = paths.corpus
    if source := local_path(section.source):
        for output in (sums_of(corpus), *dict(paths).values()):
            check_outside(source, output)
    form = Form(check_encoding(section.encoding), section.newlines)

    def check_replaceable(new: str) -> None:
        # This check runs before the stage writes anything.
        stage.check_unchanged()
        lines = digest_lines({corpus.name: new})
        contents = {corpus: new, sums_of(corpus): hashlib.sha256(lines).hexdigest()}
        for file, content in contents.items():
            # A file that DVC's cache lacks may be the user's only copy.
            if file.exists() and sha256(file) != content and cached(md5(file)) is None:
                raise CorpusError(
                    f"{file}: the download will not overwrite this file, because DVC's cache has "
                    "no copy of it: move the file to another folder"
                )

    if kept := kept_text(section, corpus):
        write_pieces(corpus, read_pieces(kept), check_replaceable)
        origin = str(kept)
    else:
        fallback = section.fallback if os.environ.get("CHARLSTM_FALLBACK") == "1" else None
        origin = download(
            corpus, _sources(section, corpus), section.sha256, form, fallback, check_replaceable
        )
    write_digests(sums_of(corpus), {corpus.name: sha256(corpus)})
    log.info("%s: %d bytes from %s", corpus, corpus.stat().st_size, without_credentials(origin))
    # The next stages remove their outputs before they could refuse a parameter.
    check_text(params, paths)


def _sources(section: DownloadParams, corpus: Path) -> list[str]:
    """Return the addresses to try, in order: the text mirror (if allowed), then the source.

    The mirror may be used if the source is a URL with a known hash. CHARLSTM_MIRROR sets it.
    Default: the folder `shared/datasets` next to the checkout.
    """
    folder = project_root().parent / "shared/datasets"
    mirror = os.environ.get("CHARLSTM_MIRROR", str(folder) if folder.is_dir() else "")
    is_used = mirror and section.sha256 is not None and local_path(section.source) is None
    return [f"{mirror.rstrip('/')}/{corpus.name}", section.source] if is_used else [section.source]


def kept_text(section: DownloadParams, corpus: Path) -> Path | None:
    """Return the path of a local copy of the corpus, or None if the source must be read.

    The copy is in the working tree or in DVC's cache. It has the expected SHA-256, or `dvc.lock`
    records it for the current parameters.
    """
    source = local_path(section.source)
    # Read a source that may have changed: a local path that exists, or a URL without a hash.
    if source.exists() if source else section.sha256 is None:
        return None
    recorded = read_lock().output(corpus)
    files = [file for file in (corpus, cached(recorded)) if file and file.is_file()]
    # `section.sha256` is the source's hash, which is the corpus's hash only without a conversion.
    if section.sha256 and (section.encoding, section.newlines) == ("utf-8", "keep"):
        return next((file for file in files if sha256(file) == section.sha256), None)
    return next((file for file in files if md5(file) == recorded), None) if _is_recorded() else None


def _is_recorded() -> bool:
    """Return True if `dvc.lock` records the current download parameters, ignoring `watch`."""
    known = read_lock().params("download").get("download", {})
    # The watched file triggers the stage, but does not affect the stage's output.
    return {**known, "watch": None} == {**load_yaml(PARAMS)["download"], "watch": None}
