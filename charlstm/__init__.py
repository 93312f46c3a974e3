"""Character-level LSTM training, from bytes to samples. Read `dvc.yaml`, then `model/char_lstm.py`.

To use a trained model:

    import charlstm

    model = charlstm.load("artifacts/model")
    text = model.generate("ROMEO:", num_chars=200)

Only the names in `__all__` are public. They are imported on first use, so `import charlstm` itself
is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlstm.errors import CharlstmError
    from charlstm.language_model.model import Model, Text, load
    from charlstm.language_model.scoring import Score
    from charlstm.language_model.state import State

    __version__: str

__all__ = ["CharlstmError", "Model", "Score", "State", "Text", "__version__", "load"]

_HOMES = {
    "CharlstmError": "charlstm.errors",
    "Model": "charlstm.language_model.model",
    "Score": "charlstm.language_model.scoring",
    "State": "charlstm.language_model.state",
    "Text": "charlstm.language_model.model",
    "load": "charlstm.language_model.model",
}


# Type checkers must not see `__getattr__`, or they would accept any misspelled name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = _version() if name == "__version__" else getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, so imported here

    try:
        return version("charlstm")
    except PackageNotFoundError:  # MLflow's copy of the code is not installed
        return "unknown"
