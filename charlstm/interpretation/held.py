"""What a model writes with one cell held high or low, beside what it writes with none held.

All texts are drawn with the same random numbers, so that they differ by what is held alone.
Shapes: B rows, V vocabulary, S state's (L, B, H).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charlstm.interpretation.clamping import Clamp
from charlstm.interpretation.watching import Held, holding
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.seeds import numpy_generator
from charlstm.text.vocabulary import Ids, Vocab

TEMPERATURE = 0.8
HELD_LEN = 240  # characters


@torch.no_grad()
def held_texts(model: CharLSTM, vocab: Vocab, prompt: Ids, clamps: Sequence[Clamp]) -> list[str]:
    """A text of HELD_LEN characters after the prompt with no cell held, then one with each of `clamps` from there on.

    The model is a `readable` one.
    """
    device, num_rows = model.head.weight.device, 1 + len(clamps)
    logits_1TV, state = model(torch.from_numpy(prompt.astype(np.int64))[None].to(device))
    state = LSTMState(*(part.repeat(1, num_rows, 1) for part in state))
    logits_BV, ids = logits_1TV[:, -1].repeat(num_rows, 1), []
    numbers = numpy_generator(0, "texts with a cell held").random(HELD_LEN)
    with holding(model, [Held(row, *clamp) for row, clamp in enumerate(clamps, start=1)]):
        for number in numbers:
            ids.append(_drawn(logits_BV, float(number)))
            logits_B1V, state = model(ids[-1][:, None].to(device), state)
            logits_BV = logits_B1V[:, 0]
    return [vocab.decode(row) for row in torch.stack(ids, 1).tolist()]


def _drawn(logits_BV: Tensor, number: float) -> Tensor:
    """The id (B,) at which the summed probabilities of a row pass `number`, from 0 to 1."""
    sums_BV = torch.softmax(logits_BV.cpu().double() / TEMPERATURE, -1).cumsum(-1)
    return (sums_BV <= number).sum(-1).clamp_max(logits_BV.shape[1] - 1)
