"""charlstm: character-level LSTM training, from bytes to samples. Start at `dvc.yaml`, then `model/char_lstm.py`.

To use a trained model:

    import charlstm

    model = charlstm.load("artifacts/model")
    text = model.generate("ROMEO:", num_chars=200)

These names are the public interface, and nothing else is. They are loaded on first use: `import charlstm` alone costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlstm.errors import CharlstmError
    from charlstm.language_model.loading import load
    from charlstm.language_model.model import Model, Text
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
    "load": "charlstm.language_model.loading",
}


if not TYPE_CHECKING:  # else a misspelt name would be an object to type checkers

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = _version() if name == "__version__" else getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # takes longer than all the rest here

    try:
        return version("charlstm")
    except PackageNotFoundError:  # a copy next to a model in MLflow: it was not installed
        return "unknown"
