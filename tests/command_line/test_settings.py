"""Settings of the environment have ranges: one line before any work, and for the doctor a line each."""

import pytest
from commands import Run

from charlstm.errors import ParamsError
from pipeline.stage import settings

WRONG = [
    ("CHARLSTM_TIMEOUT_SECONDS", "1e30"),
    ("CHARLSTM_TIMEOUT_SECONDS", "1e-300"),
    ("CHARLSTM_CHECKPOINT_SECONDS", "nan"),
    ("CHARLSTM_TRACKING_SECONDS", "-1"),
    ("OMP_NUM_THREADS", "garbage"),
    ("OMP_NUM_THREADS", ""),
    ("OMP_NUM_THREADS", "0"),
    ("OMP_NUM_THREADS", "4,2"),
    ("OMP_NUM_THREADS", "²"),
    ("OMP_NUM_THREADS", "9" * 5000),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_out_of_its_range_is_a_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    (fault,) = settings.faults()
    assert str(fault).startswith(f"{name}: expected a number of ") and len(str(fault)) < 200
    with pytest.raises(ParamsError, match=name):
        settings.check_all()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s4://bucket/prefix", "expected a URL like s3://bucket/prefix or file:///folder, got 's4://bucket/prefix'"),
        ("a folder", "expected a URL like s3://bucket/prefix or file:///folder, got 'a folder'"),
        ("s5://user:hunter2@host/x", "got 's5://host/x'"),
        ("memory://x", "got 'memory://x'"),
        ("file://a/b", "got 'file://a/b'"),
        ("gs://bucket/prefix", "gs:// needs a package that is not installed: Please install gcsfs"),
    ],
)
def test_what_can_never_be_a_mirror_is_a_line(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.MIRROR, url)
    (fault,) = settings.faults()
    assert str(fault).startswith(f"{settings.MIRROR}: ") and words in str(fault) and "hunter2" not in str(fault)


@pytest.mark.parametrize("url", ["", "/mnt/shared", "file:///mnt/shared", "s3://bucket/prefix"])
def test_what_may_be_a_mirror(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.MIRROR, url)
    assert list(settings.faults()) == []


@pytest.mark.parametrize("command", ["generate", "score", "info", "ui", "sync", "trace", "new"])
def test_a_command_says_it_before_it_works(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLSTM_TIMEOUT_SECONDS", "1e30")
    code, out, err = run(command, "something")
    assert (code, out) == (2, "")
    assert err == (
        "ERROR: CHARLSTM_TIMEOUT_SECONDS: expected a number of seconds from 0.0001 to 31,536,000, got '1e30'\n"
    )


def test_all_faults_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*settings.DEFAULT_SECONDS, settings.THREADS]
    for name in names:
        monkeypatch.setenv(name, "0")
    assert [str(fault).partition(":")[0] for fault in settings.faults()] == names


def test_what_is_in_range_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.setenv("CHARLSTM_TIMEOUT_SECONDS", " 31536000 ")
    assert settings.seconds("CHARLSTM_TIMEOUT_SECONDS") == 31_536_000 and list(settings.faults()) == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("CHARLSTM_TIMEOUT_SECONDS")
    assert settings.seconds("CHARLSTM_TIMEOUT_SECONDS") == 60 and list(settings.faults()) == []
