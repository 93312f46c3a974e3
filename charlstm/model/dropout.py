"""Dropout masks, which are generated outside the model and passed to it as arguments.

Masks are generated for the global batch, and each process takes the masks of its rows. So the masks
do not depend on the number of processes. Values are 0 or 1/(1-rate) ("inverted dropout", Srivastava
et al. 2014). A locked mask has T = 1 and applies to every time step.

Shapes: B rows, T time steps, F features, S output masks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.shape import ModelShape


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
    generator: torch.Generator,
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
    """Generate random dropout masks for `rows` of a global batch of `batch_size` rows.

    `num_steps=1` gives locked (variational) dropout: one mask for the whole sequence (Gal &
    Ghahramani 2016). `generator` is a CPU generator. Its state alone determines the masks of the
    global batch, however its rows are divided among processes.
    """

    def draw(rate: float, *size: int) -> Tensor | None:
        if rate == 0:
            return None
        keep = torch.rand(size, generator=generator)[..., rows, :] >= rate
        return keep.to(device, non_blocking=True).to(dtype) / (1 - rate)

    hidden = (num_steps, batch_size, shape.hidden_size)
    num_between = shape.num_layers - 1 + (shape.feed_forward_size > 0)
    return DropoutMasks(
        embedding=draw(rates.embedding, num_steps, batch_size, shape.input_size),
        between_layers=tuple(draw(rates.between_layers, *hidden) for _ in range(num_between)),
        output=draw(rates.output, num_output_samples, *hidden),
    )
