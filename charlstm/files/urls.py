"""Credentials in URLs, such as passwords and tokens, which must not be logged or stored."""

import logging
import re

# User name and password: text from `//` to the last `@`, if a `:` or `@` precedes the path.
# An unencoded password may contain any character, so `//host:80/a@b` counts as a password.
_USERINFO = re.compile(r"(?<=//)(?=[^\s/?#]*[:@])\S*@")
_SECRET_NAMES = (
    r"[^\s=&#;?]*(?:token|secret|passw|signature|credential|auth(?!or)|session|jwt|"
    r"(?:api|access|account)[-_]?key)[^\s=&#;?]*|"
    r"(?:[^\s=&#;?]*[-_.])?(?:key|sig|pwd|pass)|sas|hmac|otp|code"
)
_SECRET_VALUE = re.compile(rf"([?&#;](?:{_SECRET_NAMES})=)[^\s&]+", re.IGNORECASE)


def fault_of_source(source: str) -> str | None:
    """Return why a path or URL must not be shared as a parameter, or None if it is safe."""
    if "://" not in source:
        return None
    advice = "which git, DVC and MLflow would store: download the text and enter the file's path"
    if secret := _SECRET_VALUE.search(source):
        return f"must not contain a secret such as {secret[1][1:-1]}, {advice}"
    if _USERINFO.match(source, source.index("://") + 3):
        return f"must not contain a user or a password, {advice}, or write them into ~/.netrc"
    return None


def without_credentials(text: str) -> str:
    """Remove user names, passwords and secret parameters from the URLs in `text`."""
    return _USERINFO.sub("", _SECRET_VALUE.sub(r"\1***", text))


def hide_credentials(record: logging.LogRecord) -> bool:
    """Remove credentials from a log record. Return True, because this filter keeps all records."""
    record.msg = without_credentials(record.getMessage())
    record.args = ()
    return True
