"""Errors that a user can fix, each reported in one line, and the interruption of training.

Stages print the message and exit with code 2, or 75 after `Interrupted`. Any other exception is a
bug in this program and keeps its stack trace.
"""


class CharlstmError(Exception):
    """Base class of all errors that a user can fix.

    The message says what was expected, what was found, where, and what to do.
    """


class ParamsError(CharlstmError):
    """Unknown, missing or invalid values, mostly in `params.yaml` or `dvc.yaml`."""


class ChecksumError(CharlstmError):
    """A file that is damaged or does not match its checksum."""


class CorpusError(CharlstmError):
    """A text that no source provides, or that is missing, empty, too short or not UTF-8."""


class VocabularyError(CharlstmError):
    """A damaged vocabulary file, or a text with a character that the vocabulary lacks."""


class TrackingError(CharlstmError):
    """Failure of an MLflow store: no answer, damage, a missing run, or no page to show."""


class NoStoreError(TrackingError):
    """The MLflow store does not exist yet."""


class LockedError(CharlstmError):
    """A lock held by another running process that does the same work."""


class TextRequestError(CharlstmError):
    """An invalid key, value or character in a request to generate or score a text."""


class TrainingError(CharlstmError):
    """Training that cannot start with the given settings, or whose loss is no longer finite."""


class PeerError(TrainingError):
    """The failure of another process, which reports the reason itself."""


class Interrupted(Exception):
    """Interruption of training. The next training run resumes from the newest checkpoint."""
