"""URLs as they may be shown: without the user, password, token or signature that they hold."""

import logging
import re
from urllib.parse import urlsplit

HIDDEN = "***"
# After `//`: what holds a `:` or an `@` before the path, up to the last `@` (an unencoded password may hold any other
# character, `@` too). So `//host:80/a@b` counts as a password: where it cannot be known, nothing is shown.
_USERINFO = re.compile(r"(?<=//)(?=[^\s/?#]*[:@])(\S*@)(\S*)")
_SECRET_NAMES = (
    r"[^\s=&#;?]*(?:token|secret|passw|signature|credential|auth(?!or)|session|jwt|(?:api|access|account)[-_]?key)"
    r"[^\s=&#;?]*|(?:[^\s=&#;?]*[-_.])?(?:key|sig|pwd|pass)|sas|hmac|otp|code"
)
_SECRET_VALUE = re.compile(rf"([?&#;](?:{_SECRET_NAMES})=)[^\s&]+", re.IGNORECASE)


def fault_of_source(source: str) -> str | None:
    """The fault of `source`, a path or a URL, as a parameter, which others will see; None if it has none.

    A user or password counts, wherever a parser would see one, and so does what looks like a token in a URL. `${`
    counts, since what reads it as a reference puts in something else, for example a variable of the environment.
    """
    if "${" in source:
        return "should be written out, without ${: rename the file, or make a link to it"
    if "://" in source and (secret := _SECRET_VALUE.search(source)):
        return (
            f"should have no secret, as {secret[1][1:-1]} seems to be, which git, DVC and MLflow would keep: download "
            f"the text and name the file"
        )
    if "://" in source and (match := _USERINFO.search(source)) and match.start() == source.index("://") + 3:
        try:
            has_user = "@" in urlsplit(source).netloc or urlsplit(source).port is None
        except ValueError:  # the password has one of `/?#`, and its beginning is no port
            has_user = True
        if has_user:
            return (
                "should have no user and no password, which git, DVC and MLflow would keep: write them into ~/.netrc "
                "(machine HOST login USER password PASSWORD), or download the text and name the file"
            )
    return None


def without_credentials(text: str, *urls: str) -> str:
    """`text` with what no log may show left out of each URL in it.

    Left out are user and password, and the values of parameters whose names say that they are secret (`token`,
    `X-Amz-Signature`, ...). `urls` are those that the text is about: a library may quote a piece of a password alone.
    """
    hidden = _SECRET_VALUE.sub(rf"\1{HIDDEN}", _USERINFO.sub(_without_userinfo, text))
    for piece in sorted({piece for url in urls for piece in _pieces(url)}, key=len, reverse=True):
        hidden = hidden.replace(piece, HIDDEN)
    return hidden


def hide_credentials(record: logging.LogRecord) -> bool:
    """A filter for the logger of a library that does not hide them itself."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def _without_userinfo(match: re.Match[str]) -> str:
    userinfo, rest = match.groups()
    return HIDDEN if "?" in userinfo or "#" in userinfo else rest  # else the `@` may be one of a parameter's value


def _pieces(url: str) -> list[str]:
    """The parts of a URL that a parser may take for a password: between delimiters, and all up to the first slash."""
    pieces = []
    for match in _USERINFO.finditer(url):
        user, colon, password = match[1][:-1].partition(":")
        pieces += [f"{user}{colon}{re.split('[/?#]', password)[0]}"] if colon else []
        pieces += [piece for piece in re.split("[:/?#@]", password) if len(piece) > 2]
    return pieces
