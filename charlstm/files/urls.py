"""URLs as they may be shown: without the user, password, token or signature that they hold. Those of SQLite files."""

import logging
import re

# After `//`: what holds a `:` or an `@` before the path, up to the last `@`, since an unencoded password may hold any
# character. So `//host:80/a@b` counts as a password.
_USERINFO = re.compile(r"(?<=//)(?=[^\s/?#]*[:@])\S*@")
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


def without_credentials(text: str) -> str:
    """`text` without the user, the password and the values of secret parameters of each URL in it."""
    return _USERINFO.sub("", _SECRET_VALUE.sub(r"\1***", text))


def hide_credentials(record: logging.LogRecord) -> bool:
    """A filter for the logger of a library that does not hide them itself."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True
