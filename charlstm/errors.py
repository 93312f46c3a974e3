"""Errors that a user can fix, each reported in one line, and the interruption of a training.

Stages print the message and exit with code 2, or 75 after `Interrupted`. Any other exception is a
defect of this program and keeps its stack trace.
"""


class CharlstmError(Exception):
    """Base of all errors that a user can fix.

    The message says what was expected, what was found, where, and what to do.
    """


class ParamsError(CharlstmError):
    """Unknown, missing or impossible values in `params.yaml` or `dvc.yaml`."""


class ChecksumError(CharlstmError):
    """Damaged file, or a file that does not belong to its checksums."""


class CorpusError(CharlstmError):
    """Text that no source provides, or that is missing, empty, not UTF-8 or too short."""


class VocabularyError(CharlstmError):
    """Damaged vocabulary file, or a text with a character that the vocabulary lacks."""


class EncodedError(CharlstmError):
    """File of encoded ids that is missing, damaged, or does not fit its vocabulary."""


class TrackingError(CharlstmError):
    """MLflow store that does not answer, is damaged, lacks a run or cannot be displayed."""


class NoStoreError(TrackingError):
    """MLflow store that does not exist yet."""


class LockedError(CharlstmError):
    """Lock held by another running process that does the same work."""


class TextRequestError(CharlstmError):
    """Request for a text or a score with a wrong key, value or character."""


class TrainingError(CharlstmError):
    """Training that cannot start with these settings, or whose loss is no longer finite."""


class Interrupted(Exception):
    """Interruption of a training. The next start resumes from the newest checkpoint."""
