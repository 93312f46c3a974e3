"""Users, passwords and tokens are removed from URLs. URLs without secrets do not change."""

import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.files.urls import fault_of_source, hide_credentials, without_credentials

# Characters of a URL, encoded or not. A space would end the URL in a text.
SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(
    lambda text: not text.isspace()
)
USERS = SECRETS.map(lambda text: text.translate(dict.fromkeys(map(ord, ":/?#"), "x")))
SCHEMES = st.sampled_from(["http", "https", "postgresql+psycopg", "mysql", "ftp", "s3"])
NAMES = st.sampled_from(
    ["token", "X-Amz-Signature", "X-Amz-Credential", "sig", "key", "PWD", "auth", "code"]
)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~%", min_size=1)
BEFORE = "tried "
AFTER = " (Caused by: refused); and more"


def encoded(scheme: str, user: str, password: str) -> str:
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@host:80/path"


@given(SCHEMES, USERS, SECRETS)
def test_user_and_password_never_survive(scheme: str, user: str, password: str) -> None:
    shown = without_credentials(f"{BEFORE}{scheme}://{user}:{password}@host:80/path{AFTER}")
    assert shown == f"{BEFORE}{scheme}://host:80/path{AFTER}"
    assert without_credentials(encoded(scheme, user, password)) == f"{scheme}://host:80/path"


@given(SCHEMES, NAMES, SECRETS, st.sampled_from("?&#"), WORDS)
def test_a_secret_parameter_never_survives(
    scheme: str, name: str, token: str, mark: str, other: str
) -> None:
    before = f"{scheme}://host/path?x={quote(other)}{mark}{name}="
    after = "&page=2"
    shown = without_credentials(f"{before}{quote(token, safe='')}{after}")
    assert shown == f"{before}***{after}"
    raw = token.replace("&", "x")
    for before, after in (
        (f"{BEFORE}/path?{name}=", AFTER),
        (f"{scheme}://host:80/path?{name}=", ""),
    ):
        assert without_credentials(f"{before}{raw}{after}") == f"{before}***{after}"


@given(
    SCHEMES,
    WORDS,
    st.lists(WORDS),
    st.dictionaries(st.sampled_from(["raw", "dl", "version", "author"]), WORDS),
)
def test_what_has_no_secret_is_shown_as_it_is(
    scheme: str, host: str, path: list[str], query: dict[str, str]
) -> None:
    base = f"{scheme}://{host}"
    url = f"{base}/{'/'.join(path)}?{'&'.join(f'{one}={value}' for one, value in query.items())}"
    plain = f"{base}:8080/{'/'.join(path)}"
    for text in (url, f"{BEFORE}{url}{AFTER}", plain, f"{base}/package@1.2/text.txt"):
        assert without_credentials(text) == text


def test_a_library_that_logs_a_url(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a library")
    logger.addFilter(hide_credentials)
    logger.warning("retrying %s, %d times", "http://alice:hunter2@host/", 3)
    assert caplog.messages == ["retrying http://host/, 3 times"]


@given(SCHEMES, USERS, SECRETS)
def test_an_address_with_a_password_is_no_parameter(scheme: str, user: str, password: str) -> None:
    assert "must not contain a user or a password" in str(
        fault_of_source(encoded(scheme, user, password))
    )
    assert fault_of_source(f"{scheme}://{quote(user, safe='')}@host/path") is not None


def test_an_address_without_a_password_is_one() -> None:
    for source in ("https://host/a:b@c?d=e@f", "/a/b@c", "a@b.txt", "file:///a/b@c:d"):
        assert fault_of_source(source) is None
