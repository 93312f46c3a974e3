"""URLs as they may be shown: without the user, password, token or signature that they hold. Those of SQLite files."""

import logging
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

# After `//`: what holds a `:` or an `@` before the path, up to the last `@` (an unencoded password may hold any other
# character, `@` too). So `//host:80/a@b` counts as a password: where it cannot be known, nothing is shown.
_USERINFO = re.compile(r"(?<=//)(?=[^\s/?#]*[:@])(\S*@)(\S*)")
_SECRET_NAMES = (
    r"[^\s=&#;?]*(?:token|secret|passw|signature|credential|auth(?!or)|session|jwt|(?:api|access|account)[-_]?key)"
    r"[^\s=&#;?]*|(?:[^\s=&#;?]*[-_.])?(?:key|sig|pwd|pass)|sas|hmac|otp|code"
)
_SECRET_VALUE = re.compile(rf"([?&#;](?:{_SECRET_NAMES})=)[^\s&]+", re.IGNORECASE)


def fault_of_source(source: str) -> str | None:
    """The fault of `source`, a path or a URL, as a parameter, which others will see; None if it has none."""
    advice = "which git, DVC and MLflow would keep: download the text and name the file"
    if "://" in source and (secret := _SECRET_VALUE.search(source)):
        return f"should have no secret, as {secret[1][1:-1]} seems to be, {advice}"
    if "://" in source and _USERINFO.match(source, source.index("://") + 3):
        return f"should have no user and no password, {advice}, or write them into ~/.netrc"
    return None


def without_credentials(text: str, *urls: str) -> str:
    """`text` without the user, the password and the values of secret parameters of each URL in it.

    `urls` are those that the text is about: a library may quote a piece of a password alone.
    """
    hidden = _SECRET_VALUE.sub(r"\1***", _USERINFO.sub(_without_userinfo, text))
    for piece in sorted({piece for url in urls for piece in _pieces(url)}, key=len, reverse=True):
        hidden = hidden.replace(piece, "***")
    return hidden


def hide_credentials(record: logging.LogRecord) -> bool:
    """A filter for the logger of a library that does not hide them itself."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def _without_userinfo(match: re.Match[str]) -> str:
    userinfo, rest = match.groups()
    return "***" if "?" in userinfo or "#" in userinfo else rest  # else the `@` may be one of a parameter's value


def _pieces(url: str) -> list[str]:
    """The parts of a URL that a parser may take for a password: between delimiters, and all up to the first slash."""
    pieces = []
    for match in _USERINFO.finditer(url):
        user, colon, password = match[1][:-1].partition(":")
        pieces += [f"{user}{colon}{re.split('[/?#]', password)[0]}"] if colon else []
        pieces += [piece for piece in re.split("[:/?#@]", password) if len(piece) > 2]
    return pieces


# As it is in a URI: what is printed, but for `?`, which begins a query, and `%`, which SQLAlchemy decodes.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """The URI of the database in `file`, whatever characters its path has."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # Of what begins with `sqlite:///`, MLflow makes the folder, under the name as it is in the URI.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a database, as SQLAlchemy reads its URI; None if the URI is of something else."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))
