"""Errors that a user can fix, each reported in one line, and the interruption, which is no mistake.

Stages print the message and exit with 2, after `Interrupted` with 75. Anything else is a defect of ours and keeps its
traceback. A class of its own is for what some caller catches apart from the rest; all other errors are plain
`CharlstmError`.
"""


class CharlstmError(Exception):
    """It names what was expected, what was found, where, and what to do; the base of all errors that a user can fix."""


class ParamsError(CharlstmError):
    """`params.yaml` (or `dvc.yaml`) holds unknown, missing or impossible values."""


class ChecksumError(CharlstmError):
    """A file is damaged, or belongs to another run than its checksums."""


class CorpusError(CharlstmError):
    """No source gave a text, or it is missing, empty, not UTF-8, or too short for what is asked of it."""


class VocabularyError(CharlstmError):
    """A vocabulary file is damaged, or a text has a character that the vocabulary lacks."""


class EncodedError(CharlstmError):
    """A file of encoded ids is missing, damaged, or does not fit its vocabulary."""


class TrackingError(CharlstmError):
    """An MLflow store does not answer, is damaged, or has no run; or its page cannot be opened."""


class NoStoreError(TrackingError):
    """There is no MLflow store yet."""


class LockedError(CharlstmError):
    """Another living process does the same work."""


class TextRequestError(CharlstmError):
    """A text is asked for that cannot be written or scored: a key, a value or a character is wrong."""


class TrainingError(CharlstmError):
    """Training cannot start with these settings, or its loss stopped being finite."""


class Interrupted(Exception):
    """Training stopped before its end. Started again, it resumes from its newest checkpoint."""
