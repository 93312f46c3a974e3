"""Dropout masks, drawn outside the model: randomness is an argument.

Masks are drawn for the global batch from an explicit generator and then cut to the rows of a
process, so they do not depend on the number of processes. Values are 0 or 1/(1-rate) ("inverted
dropout", Srivastava et al. 2014). A locked mask has T = 1 and serves every time step.

Shapes: B rows, T time steps, F features, S copies of the output.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.shape import ModelShape


class DropoutRates(NamedTuple):
    """Probabilities of a zero: after the embedding, between layers, and before the head (`output`).

    A feed-forward block counts as a layer, so `between_layers` also applies between LSTM and block.
    """

    embedding: float
    between_layers: float
    output: float


class DropoutMasks(NamedTuple):
    """Masks (1 or T, B, F) by place, (S, 1 or T, B, F) for `output`. None means no dropout there.

    With S > 1 the head sees S differently dropped copies of the same features, and the loss is
    their mean ("multi-sample dropout", Inoue 2019). The gradient has less noise, which permits
    higher rates.
    """

    embedding: Tensor | None
    between_layers: tuple[Tensor | None, ...]
    output: Tensor | None

    def rows(self, rows: slice) -> "DropoutMasks":
        """Return the masks of the selected rows."""

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
    """Return the masks of `rows` in a global batch of `batch_size` rows.

    `num_steps=1` is locked (variational) dropout: one mask for the whole sequence (Gal & Ghahramani
    2016). `generator` is a CPU generator. Its state alone decides the global mask, however the rows
    are divided.
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
