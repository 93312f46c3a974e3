"""Credentials in URLs: passwords, tokens and signatures, which no message or parameter may hold."""

import logging
import re

# The user and password after `//`: text with a `:` or `@` before the path, up to the last `@`,
# because an unencoded password may hold any character. So `//host:80/a@b` counts as a password.
_USERINFO = re.compile(r"(?<=//)(?=[^\s/?#]*[:@])\S*@")
_SECRET_NAMES = (
    r"[^\s=&#;?]*(?:token|secret|passw|signature|credential|auth(?!or)|session|jwt|"
    r"(?:api|access|account)[-_]?key)[^\s=&#;?]*|"
    r"(?:[^\s=&#;?]*[-_.])?(?:key|sig|pwd|pass)|sas|hmac|otp|code"
)
_SECRET_VALUE = re.compile(rf"([?&#;](?:{_SECRET_NAMES})=)[^\s&]+", re.IGNORECASE)


def fault_of_source(source: str) -> str | None:
    """Return what is wrong with a path or URL as a shared parameter, or None if it is safe."""
    if "://" not in source:
        return None
    advice = "which git, DVC and MLflow would keep: download the text and name the file"
    if secret := _SECRET_VALUE.search(source):
        return f"should have no secret, as {secret[1][1:-1]} seems to be, {advice}"
    if _USERINFO.match(source, source.index("://") + 3):
        return f"should have no user and no password, {advice}, or write them into ~/.netrc"
    return None


def without_credentials(text: str) -> str:
    """Return `text` without the user, password and secret parameters of the URLs in it."""
    return _USERINFO.sub("", _SECRET_VALUE.sub(r"\1***", text))


def hide_credentials(record: logging.LogRecord) -> bool:
    """Remove credentials from a log record. Usable as a logging filter, which keeps all records."""
    record.msg = without_credentials(record.getMessage())
    record.args = ()
    return True
