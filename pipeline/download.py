"""Stage download: source -> corpus."""

import logging
import os
import sys
from collections.abc import Sequence

from charlstm.params import Params
from charlstm.storage.checksums import sums_of, write_sums
from charlstm.text.download import FallbackSource, download
from pipeline.common import stage
from pipeline.common.paths import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Fetch and verify the corpus. CHARLSTM_MIRROR: a folder or URL tried before a URL with a hash."""
    section = params.download
    origin = download(
        paths.corpus,
        section.source,
        section.sha256,
        mirror=os.environ.get("CHARLSTM_MIRROR"),
        fallback=FallbackSource(**section.fallback.model_dump()) if section.fallback else None,
        show_progress=sys.stderr.isatty(),
    )
    write_sums(sums_of(paths.corpus), [paths.corpus.name])
    log.info("%s: %d bytes from %s", paths.corpus, paths.corpus.stat().st_size, origin)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
