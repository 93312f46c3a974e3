"""The state of a model after a text."""

from hashlib import sha256
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_bytes
from charlstm.model.gates import LSTMState

MODEL = "model_sha256"  # the key of the file's metadata
CHECKSUM = "sha256"  # a tensor, since safetensors writes several keys of metadata in a different order each time
DTYPES = {"hidden": torch.float32, "cell": torch.float32, CHECKSUM: torch.uint8}


class State:
    """Hidden and cell state of a model after a text: all that it knows of it. `model_sha256` names the model."""

    def __init__(self, lstm: LSTMState, model_sha256: str) -> None:
        self.lstm, self.model_sha256 = lstm, model_sha256

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
        """Write the file, whole or not at all."""
        tensors = {name: one.contiguous() for name, one in self.lstm._asdict().items()}
        checksum = torch.frombuffer(bytearray(self._digest()), dtype=torch.uint8)
        write_bytes(Path(path), save({**tensors, CHECKSUM: checksum}, {MODEL: self.model_sha256}))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "State":
        """Read what `save` wrote.

        Raises:
            CharlstmError: the file is missing, damaged, or something else.
        """
        try:
            Path(path).open("rb").close()
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise CharlstmError(
                f"{path}: expected a saved state, cannot read it: {reason}"
            ) from None
        if {name: one.dtype for name, one in found.items()} != DTYPES or MODEL not in metadata:
            raise CharlstmError(
                f"{path}: expected a saved state of a model, found another file of safetensors"
            )
        checksum = bytes(found.pop(CHECKSUM).flatten().tolist())
        state = cls(LSTMState(**found), metadata[MODEL])
        if checksum != state._digest():
            raise CharlstmError(
                f"{path}: expected a saved state as it was written, found another checksum: it is damaged"
            )
        return state

    def of(self, model_sha256: str) -> LSTMState:
        """The tensors, for that model.

        Raises:
            CharlstmError: they are another model's.
        """
        if self.model_sha256 != model_sha256:
            raise CharlstmError(
                f"state: expected one of the model {model_sha256[:12]}, got one of {self.model_sha256[:12]}; "
                "read the text with this model"
            )
        return self.lstm

    def _digest(self) -> bytes:
        found = sha256(self.model_sha256.encode())
        for one in self.lstm:
            found.update(one.contiguous().numpy().tobytes())
        return found.digest()
