"""Stage download: source -> corpus."""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from charlstm.corpus.encodings import Form, check_encoding
from charlstm.corpus.fetch import check_outside, download, local_path
from charlstm.errors import CorpusError
from charlstm.files.checksums import digest_lines, sha256, sums_of, write_digests
from charlstm.files.documents import load_yaml
from charlstm.files.pieces import read_pieces, write_pieces
from charlstm.files.urls import without_credentials
from charlstm.params import DownloadParams, Params
from pipeline.lineage.git import git
from pipeline.run import stage
from pipeline.run.dvc import Paths, cached, inputs_of, md5, read_lock, recorded_outputs
from pipeline.run.project import LOCK, PARAMS, project_root

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus; a file that no download wrote is never overwritten."""
    section, corpus = params.download, paths.corpus
    if source := local_path(section.source):
        for output in (sums_of(corpus), *dict(paths).values()):
            check_outside(source, output)
    form = Form(
        check_encoding(section.encoding), section.newlines, params.split.document_separator or "\n"
    )

    before = inputs_of("download", params)

    def check_replaceable(new: str) -> None:
        stage.check_unchanged("download", before)  # while nothing is written yet
        contents = {
            corpus: new,
            sums_of(corpus): hashlib.sha256(digest_lines({corpus.name: new})).hexdigest(),
        }
        for file, content in contents.items():
            if (
                file.exists() and sha256(file) != content and cached(md5(file)) is None
            ):  # it may be the only copy
                expected = "no file, or one that DVC has kept of this stage"
                raise CorpusError(
                    f"{file}: expected {expected}, found another, which is left as it is: move it away"
                )

    if (kept := kept_text(section, corpus)) is not None:
        write_pieces(corpus, read_pieces(kept), check_replaceable)
        origin = str(kept)
    else:
        fallback = section.fallback if os.environ.get("CHARLSTM_FALLBACK") == "1" else None
        origin = download(
            corpus, _sources(section, corpus), section.sha256, form, fallback, check_replaceable
        )
    write_digests(sums_of(corpus), {corpus.name: sha256(corpus)})
    log.info("%s: %d bytes from %s", corpus, corpus.stat().st_size, without_credentials(origin))


def _sources(section: DownloadParams, corpus: Path) -> list[str]:
    """The source; before a URL with a hash, CHARLSTM_MIRROR, by default `shared/datasets` next to the checkout."""
    folder = project_root().parent / "shared/datasets"
    mirror = os.environ.get("CHARLSTM_MIRROR", str(folder) if folder.is_dir() else "")
    is_used = mirror and section.sha256 is not None and local_path(section.source) is None
    return [f"{mirror.rstrip('/')}/{corpus.name}", section.source] if is_used else [section.source]


def kept_text(section: DownloadParams, corpus: Path) -> Path | None:
    """The corpus that is there, or in DVC's cache, if it is what the parameters name: then no URL is asked.

    It has the expected SHA-256, also of an earlier commit, or it is what `dvc.lock` has of these parameters.
    """
    source, recorded = local_path(section.source), recorded_outputs("download").get(corpus, "")
    if source.exists() if source else section.sha256 is None:
        return None
    candidates = chain([corpus], map(cached, chain([recorded], _committed(corpus))))
    files = (file for file in candidates if file and file.is_file())
    if section.sha256 and (section.encoding, section.newlines) == ("utf-8", "keep"):
        return next((file for file in files if sha256(file) == section.sha256), None)
    return next((file for file in files if md5(file) == recorded), None) if _is_recorded() else None


def _committed(corpus: Path) -> Iterator[str]:
    """The MD5 of what `dvc.lock` has under this name in any commit; git is asked when the first is wanted."""
    commits = (git("rev-list", "--all", "--", str(LOCK)) or "").split()
    found = (
        git("grep", "-h", "--fixed-strings", "-A2", f"path: {corpus}", *commits, "--", str(LOCK))
        if commits
        else ""
    )
    yield from re.findall(r"md5: ([0-9a-f]{32})$", found or "", re.MULTILINE)


def _is_recorded() -> bool:
    """Whether `dvc.lock` has these parameters; what is watched decides no byte."""
    lock = read_lock()
    known = lock.params("download").get("download", {}) if lock else {}
    return {**known, "watch": None} == {**load_yaml(PARAMS)["download"], "watch": None}


if __name__ == "__main__":
    sys.exit(stage.run(run))
