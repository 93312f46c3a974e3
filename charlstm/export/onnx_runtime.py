"""An exported model under onnxruntime, on one CPU thread: as models are evaluated, and one character at a time.

Shapes: B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.evaluation.protocols import stateful
from charlstm.evaluation.windows import LanguageModel
from charlstm.generation.quantized import Stepper, quantize
from charlstm.model.char_lstm import ModelShape
from charlstm.model.gates import LSTMState
from charlstm.model.loss import LossSum
from charlstm.model.model_folder import TrainedModel
from charlstm.text.encoded import EncodedText, num_chars_of
from charlstm.text.vocabulary import Ids

Floats = NDArray[np.float32]


class OnnxModel:
    """The file of `onnx_bytes` or `int8_bytes`, of a model with this shape."""

    def __init__(self, file: bytes, shape: ModelShape) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.shape = shape

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT` (int64), and the state (L, B, H) after the last."""
        logits_BTV, *end = self.run(ids_BT.numpy(), state.hidden.numpy(), state.cell.numpy())
        return torch.from_numpy(logits_BTV), LSTMState(*map(torch.from_numpy, end))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read."""
        zeros_LBH = torch.zeros(self.shape.num_layers, num_rows, self.shape.hidden_size)
        return LSTMState(zeros_LBH, zeros_LBH)

    def run(self, ids_BT: NDArray[np.int64], hidden_LBH: Floats, cell_LBH: Floats) -> tuple[Floats, Floats, Floats]:
        """The same in numpy: logits (B, T, V), hidden and cell (L, B, H)."""
        logits_BTV, hidden_LBH, cell_LBH = self._session.run(
            ["logits", "hidden_out", "cell_out"], {"ids": ids_BT, "hidden": hidden_LBH, "cell": cell_LBH}
        )
        return logits_BTV, hidden_LBH, cell_LBH


class OnnxStepper:
    """One row, one character at a time, from the state before anything was read."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        start = model.zero_state(1)
        self._hidden_LBH, self._cell_LBH = start.hidden.numpy(), start.cell.numpy()

    def step(self, index: int) -> Tensor:
        """Read the character with id `index`; the logits (V,) of the next one."""
        ids_BT = np.array([[index]], np.int64)
        logits_BTV, self._hidden_LBH, self._cell_LBH = self._model.run(ids_BT, self._hidden_LBH, self._cell_LBH)
        return torch.from_numpy(logits_BTV[0, 0])


# What exported files cost, measured on a text: loss, the distance of logits from torch's, and speed, beside torch's.
#
# The speed of torch is that of the sampler's stepper, which reads one character at a time in 8 bits.
# Shapes: N characters, V vocabulary.

MAX_STEPS = 1_000  # characters that are read one at a time
NUM_ROUNDS = 5  # all take turns, and the fastest reading counts: what else the machine does hits all of them alike


class Cost(NamedTuple):
    """One way to run a model: the `stateful` loss, and what is read one character at a time.

    `largest_difference` is that of any logit from torch's.
    """

    name: str
    loss: LossSum
    largest_difference: float
    chars_per_second: float


def measure(trained: TrainedModel, files: Mapping[str, bytes], ids: Ids) -> Iterator[Cost]:
    """The costs of torch, on as many threads as it has, and then of each of `files`; `ids` (N) are 2 or more."""
    exported = {name: OnnxModel(file, trained.model.shape) for name, file in files.items()}
    models: dict[str, LanguageModel] = {"torch": trained.model, **exported}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    logits_NV: dict[str, Tensor] = {}
    beginning = ids[:MAX_STEPS].astype(np.int64)
    for _ in range(NUM_ROUNDS):
        for name in models:
            before = time.perf_counter()
            logits_NV[name] = _read(exported[name], beginning) if name in exported else _read_torch(trained, beginning)
            seconds[name].append(time.perf_counter() - before)
    with torch.inference_mode():
        logits_NV["torch"] = trained.model(torch.from_numpy(beginning)[None])[0][0]
    for name, model in models.items():
        difference = (logits_NV[name] - logits_NV["torch"]).abs().max().item()
        num_chars = num_chars_of(beginning, trained.vocab.unit)
        loss = stateful(model, EncodedText(ids, trained.vocab.unit))
        yield Cost(name, loss, difference, num_chars / min(seconds[name]))


def _read(model: OnnxModel, ids_N: NDArray[np.int64]) -> Tensor:
    """Logits (N, V) of ids that are read one after the other."""
    stepper = OnnxStepper(model)
    return torch.stack([stepper.step(index) for index in ids_N.tolist()])


@torch.inference_mode()
def _read_torch(trained: TrainedModel, ids_N: NDArray[np.int64]) -> Tensor:
    stepper = Stepper(quantize(trained.model))
    state, logits = stepper.zero_state(1), []
    for ids_1 in torch.from_numpy(ids_N)[:, None]:
        state = stepper.read(ids_1[None], state)
        logits.append(stepper.logits(state)[0])
    return torch.stack(logits)
