"""Errors that a user can fix, each reported in one line, and the interruption, which is no mistake.

Stages print the message and exit with 2, after `Interrupted` with 75. Anything else is a defect of ours and keeps its
traceback.
"""


class CharlstmError(Exception):
    """Base of all errors that name what was expected, what was found, where, and what to do."""


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


class ModelFolderError(CharlstmError):
    """A model folder is missing, damaged, or does not fit what it is used with."""


class HistoryError(CharlstmError):
    """A table of losses is missing or damaged."""


class InterpretationError(CharlstmError):
    """A `cells.json` is missing or damaged."""


class TrackingError(CharlstmError):
    """An MLflow store does not answer, is damaged, or has no run; or its page cannot be opened."""


class ReviewError(CharlstmError):
    """A `review.json` is missing or damaged, or there are too many to compare, or too few."""


class LockedError(CharlstmError):
    """Another living process does the same work."""


class TextRequestError(CharlstmError):
    """A text is asked for that cannot be written or scored: a key, a value or a character is wrong."""


class StateError(CharlstmError):
    """A saved state is missing, damaged, or of another model than the one it is given to."""


class LineageError(CharlstmError):
    """What is asked for is known to neither MLflow, git nor DVC, or its record is not enough to make it again."""


class ExportError(CharlstmError):
    """A model cannot be written as another kind of file: a package or a folder is missing, or the file is not exact."""


class TrainingError(CharlstmError):
    """Training cannot start with these settings, or its loss stopped being finite."""


class Interrupted(Exception):
    """Training stopped before its end. Started again, it resumes from its newest checkpoint."""
