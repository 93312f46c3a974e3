"""Dropout masks, which are generated outside the model and passed to it as arguments.

Values are 0 or 1/(1-rate) ("inverted dropout", Srivastava et al. 2014). A locked mask has T = 1 and
applies to every time step.

A mask has a random number for every row at every time step, and one for every feature. A hash of
both decides about an element. So each process generates only the elements of its rows, on its
device, and the masks depend neither on the device nor on the number of processes.

Shapes: B rows, T time steps, F features, S output masks.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.model.shape import ModelShape
from charlstm.seeds import numpy_generator

# Factors and shift of a 32-bit hash with little bias (Wellons 2018, "Prospecting for hash
# functions"), as signed integers. The last shift is omitted, so only the high bits are random.
FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)
SHIFT = 15


class DropoutRates(NamedTuple):
    """Dropout probabilities after the embedding, between layers, and before the head (`output`).

    A feed-forward block counts as a layer, so `between_layers` also applies between the LSTM and
    the block.
    """

    embedding: float
    between_layers: float
    output: float


class DropoutMasks(NamedTuple):
    """Dropout masks of shape (1 or T, B, F), and S output masks of shape (S, 1 or T, B, F).

    A mask of None means no dropout at that point. With S > 1, the head receives S copies of the
    features, each with its own mask. The loss is the mean over the copies ("multi-sample dropout",
    Inoue 2019). The gradient has less noise, which permits higher dropout rates.
    """

    embedding: Tensor | None
    between_layers: tuple[Tensor | None, ...]
    output: Tensor | None

    def rows(self, rows: slice) -> "DropoutMasks":
        """Return the masks for the selected rows of the batch."""

        def cut(mask: Tensor | None) -> Tensor | None:
            return None if mask is None else mask[..., rows, :]

        return DropoutMasks(
            cut(self.embedding), tuple(map(cut, self.between_layers)), cut(self.output)
        )


def draw_masks(
    seed: int,
    step: int,
    rates: DropoutRates,
    shape: ModelShape,
    *,
    num_steps: int,
    batch_size: int,
    rows: slice,
    num_output_samples: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DropoutMasks:
    """Generate the dropout masks of training step `step`, for `rows` of the global batch.

    The seed and the step alone determine the masks of all `batch_size` rows. `num_steps=1` gives
    locked (variational) dropout: one mask for the whole sequence (Gal & Ghahramani 2016).
    """
    num_drawn = 0

    def draw(rate: float, *size: int) -> Tensor | None:
        nonlocal num_drawn
        num_drawn += 1
        if rate == 0:
            return None
        generator = numpy_generator(seed, "dropout", step, num_drawn)
        rows_B = generator.integers(2**32, size=size[:-1], dtype=np.uint32)[..., rows]
        features_F = generator.integers(2**32, size=size[-1], dtype=np.uint32)
        keep = _random_bits(rows_B, features_F, device) >= int(rate * 2**32) - 2**31
        return keep.to(dtype) / (1 - rate)

    hidden = (num_steps, batch_size, shape.hidden_size)
    num_between = shape.num_layers - 1 + (shape.feed_forward_size > 0)
    return DropoutMasks(
        embedding=draw(rates.embedding, num_steps, batch_size, shape.input_size),
        between_layers=tuple(draw(rates.between_layers, *hidden) for _ in range(num_between)),
        output=draw(rates.output, num_output_samples, *hidden),
    )


def _random_bits(
    rows: NDArray[np.uint32], features_F: NDArray[np.uint32], device: torch.device | str
) -> Tensor:
    """Return an int32 hash for each (row, feature) pair, with shape (*rows.shape, F)."""
    own, other = (
        torch.from_numpy(np.ascontiguousarray(numbers).view(np.int32)).to(device, non_blocking=True)
        for numbers in (rows, features_F)
    )
    bits = own[..., None] ^ other
    bits *= FACTORS[0]
    bits ^= bits >> SHIFT
    bits *= FACTORS[1]
    return bits
