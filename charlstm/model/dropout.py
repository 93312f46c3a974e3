"""Dropout masks, drawn outside the model: randomness is an argument.

Masks are drawn for the *global* batch from an explicit generator and then cut to a process's rows, so they do not
depend on the number of processes. Values are 0 or 1/(1-rate) ("inverted dropout", Srivastava et al. 2014). A locked
mask has T = 1 and serves every step.

Shapes: B rows, T time steps, F features, S copies of the output.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.shape import ModelShape


class DropoutRates(NamedTuple):
    """The probability of a zero by place: after the embedding, between layers, and before the head (`output`).

    A feed-forward block is a layer: `between_layers` is also between it and the LSTM.
    """

    embedding: float
    between_layers: float
    output: float


class DropoutMasks(NamedTuple):
    """One optional mask (1 or T, B, F) for each place, (S, 1 or T, B, F) for `output`; None leaves values as they are.

    With S > 1 the head sees S differently dropped copies of the same features, and the loss is their mean
    ("multi-sample dropout", Inoue 2019): less noise in the gradient, so that more dropout can be borne.
    """

    embedding: Tensor | None
    between_layers: tuple[Tensor | None, ...]
    output: Tensor | None

    def rows(self, rows: slice) -> "DropoutMasks":
        """The masks of some of the rows."""
        embedding, *between, output = (
            None if mask is None else mask[..., rows, :]
            for mask in (self.embedding, *self.between_layers, self.output)
        )
        return DropoutMasks(embedding, tuple(between), output)


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
    """Masks for `rows` of a global batch of `batch_size`.

    Locked (variational) dropout, one mask for the whole sequence, is `num_steps=1` (Gal & Ghahramani 2016).
    `generator` is a CPU generator; with the same one, any division into rows gives the same global mask.
    """

    def draw(rate: float, *shape: int) -> Tensor | None:
        if rate == 0:
            return None
        keep = torch.rand(shape, generator=generator)[..., rows, :] >= rate
        return keep.to(device, non_blocking=True).to(dtype) / (1 - rate)

    hidden = (num_steps, batch_size, shape.hidden_size)
    num_between = shape.num_layers - 1 + (shape.feed_forward_size > 0)
    return DropoutMasks(
        embedding=draw(rates.embedding, num_steps, batch_size, shape.input_size),
        between_layers=tuple(draw(rates.between_layers, *hidden) for _ in range(num_between)),
        output=draw(rates.output, num_output_samples, *hidden),
    )
