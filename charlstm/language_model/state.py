"""State of a model after a text."""

from hashlib import sha256
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_bytes
from charlstm.model.gates import LSTMState

MODEL = "model_sha256"  # the only key in the metadata of a state file
# The checksum is a tensor: safetensors would write two metadata keys in a random order.
CHECKSUM = "sha256"


class State:
    """Hidden and cell state of a model after a text: all that the model knows about the text.

    `model_sha256` identifies the model.
    """

    def __init__(self, lstm: LSTMState, model_sha256: str) -> None:
        self.lstm = lstm
        self.model_sha256 = model_sha256

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, State)
            and self.model_sha256 == other.model_sha256
            and torch.equal(self.lstm.hidden, other.lstm.hidden)
            and torch.equal(self.lstm.cell, other.lstm.cell)
        )

    __hash__ = None  # type: ignore[assignment]  # tensors can change

    def __repr__(self) -> str:
        layers, _, hidden = self.lstm.hidden.shape
        return f"<charlstm.State of {layers} x {hidden} units, model {self.model_sha256[:8]}>"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file atomically."""
        tensors = {name: tensor.contiguous() for name, tensor in self.lstm._asdict().items()}
        tensors[CHECKSUM] = torch.tensor(list(self._digest()), dtype=torch.uint8)
        write_bytes(Path(path), save(tensors, {MODEL: self.model_sha256}))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "State":
        """Load a state from a file that `save` wrote.

        Raises:
            CharlstmError: the file is missing, damaged, or not a saved state.
        """
        try:
            # Open the file first, so that a missing file or a folder gives a clear error message.
            Path(path).open("rb").close()
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in sorted(file.keys())}
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            message = f"{path}: expected a saved state, but the file cannot be read: {reason}"
            raise CharlstmError(message) from None
        if found.keys() == {*LSTMState._fields, CHECKSUM} and MODEL in metadata:
            checksum = found.pop(CHECKSUM).tolist()
            state = cls(LSTMState(**found), metadata[MODEL])
            if checksum == list(state._digest()):
                return state
        raise CharlstmError(
            f"{path}: expected a saved state, but the file is damaged or contains something else"
        )

    def of(self, model_sha256: str) -> LSTMState:
        """Return the state's tensors if the state belongs to the model `model_sha256`.

        Raises:
            CharlstmError: the state belongs to another model.
        """
        if self.model_sha256 != model_sha256:
            raise CharlstmError(
                f"state: expected a state from model {model_sha256[:12]}, "
                f"got a state from model {self.model_sha256[:12]}; "
                "read the text again with the expected model"
            )
        return self.lstm

    def _digest(self) -> bytes:
        digest = sha256(self.model_sha256.encode())
        for tensor in self.lstm:
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.digest()
