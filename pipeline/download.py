"""Stage download: source -> corpus."""

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlstm.corpus.conversion import Form, check_outside, local_path
from charlstm.corpus.download import download
from charlstm.corpus.encodings import check_encoding
from charlstm.errors import CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import sums_of, write_digests
from charlstm.files.documents import load_yaml
from charlstm.files.pieces import read_pieces, write_pieces
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams, Params
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import cached, md5, read_lock, recorded_outputs
from pipeline.provenance.git import git
from pipeline.stage import stage
from pipeline.stage.project import LOCK, PARAMS
from pipeline.stage.tracking_store import project_root

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus; a file that no download wrote is never overwritten."""
    section, corpus = params.download, paths.corpus
    check_source(section.source, paths)
    form = Form(check_encoding(section.encoding), section.newlines, params.split.document_separator or "\n")

    def check_replaceable(new: str) -> None:
        if not corpus.exists() or sha256(corpus) == new:
            return
        digest = md5(corpus)  # of what DVC has in its cache, nothing is lost
        if recorded_outputs("download").get(corpus) != digest and cached(digest) is None:
            expected = "no file, or one that DVC has kept of this stage"
            raise CorpusError(f"{corpus}: expected {expected}, found another, which is left as it is: move it away")

    if (kept := kept_text(section, paths)) is not None:
        write_pieces(corpus, read_pieces(kept), check_replaceable)
        origin = str(kept)
    else:
        is_fallback_asked_for = os.environ.get("CHARLSTM_FALLBACK") == "1"
        stands_in = section.fallback is not None and section.fallback.stands_in_for == section.sha256
        fallback = section.fallback if stands_in and is_fallback_asked_for else None
        origin = download(corpus, _sources(section, corpus), section.sha256, form, fallback, check_replaceable)
    write_digests(sums_of(corpus), {corpus.name: sha256(corpus)})
    log.info("%s: %d bytes from %s", corpus, corpus.stat().st_size, without_credentials(origin))


def _sources(section: DownloadParams, corpus: Path) -> list[str]:
    """The source; before a URL with a hash, CHARLSTM_MIRROR, by default `shared/datasets` beside the checkout."""
    folder = project_root().parent / "shared/datasets"
    mirror = os.environ.get("CHARLSTM_MIRROR", str(folder) if folder.is_dir() else "")
    is_used = mirror and section.sha256 is not None and local_path(section.source) is None
    return [f"{mirror.rstrip('/')}/{corpus.name}", section.source] if is_used else [section.source]


def kept_text(section: DownloadParams, paths: Paths) -> Path | None:
    """The corpus that is there, or in DVC's cache, if it is what the parameters name: then no source is asked.

    It has the expected SHA-256, or it is what DVC has recorded of these parameters. A source on this machine is read.
    """
    corpus, source = paths.corpus, local_path(section.source)
    if source.exists() if source else section.sha256 is None:
        return None
    recorded = recorded_outputs("download").get(corpus, "")
    digests = dict.fromkeys([recorded, *_committed(corpus)])
    files = [file for file in (corpus, *map(cached, digests)) if file is not None and file.is_file()]
    if section.sha256 and (section.encoding, section.newlines) == ("utf-8", "keep"):
        return next((file for file in files if sha256(file) == section.sha256), None)
    is_recorded = is_of_these_parameters("download", but="watch")
    return next((file for file in files if is_recorded and md5(file) == recorded), None)


def is_of_these_parameters(*stages: str, but: str = "") -> bool:
    """Whether `dvc.lock` has these parameters for `stages`, whatever it has for `but`. True without a `dvc.lock`."""
    lock, now = read_lock(), load_yaml(PARAMS)

    def values(section: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in section.items() if name != but}

    return lock is None or all(values(lock.params(stage).get(stage, {})) == values(now[stage]) for stage in stages)


def _committed(corpus: Path) -> list[str]:
    """The MD5 of what `dvc.lock` has under this name in any commit."""
    commits = (git("rev-list", "--all", "--", str(LOCK)) or "").split()
    found = git("grep", "-h", "--fixed-strings", "-A2", f"path: {corpus}", *commits, "--", str(LOCK)) if commits else ""
    return re.findall(r"md5: ([0-9a-f]{32})$", found or "", re.MULTILINE)


def check_source(source: str, paths: Paths) -> None:
    """CorpusError if a stage would write what this one reads, or if it would read what a stage writes."""
    if (path := local_path(source)) is not None:
        for output in (sums_of(paths.corpus), *dict(paths).values()):
            check_outside(path, output)


if __name__ == "__main__":
    sys.exit(stage.run(run))
