"""Parts of the compiled sampler that Python cannot call, called."""

from functools import cache

import numba
import numpy as np
import torch

from charlstm.generation import kernels
from charlstm.generation.kernels import Double, Float, Ids, PackedModel, Rules
from charlstm.generation.packed import packed
from charlstm.generation.quantized import quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape


@cache
def tables(vocab_size: int) -> PackedModel:
    """A model of which nothing but the tables and the vocabulary's size is used."""
    torch.manual_seed(0)
    return packed(quantize(CharLSTM(ModelShape(vocab_size, 1, 1, 1), "gates")))


def draw(logits_RV: Float, rules: Rules, uniforms_R: Double, utf8_R: Ids | None = None) -> Ids:
    """Ids (R,) of one character a row."""
    states_R = np.full(len(logits_RV), -1) if utf8_R is None else utf8_R.copy()
    ids_R = np.zeros(len(logits_RV), np.int64)
    _draw(
        tables(logits_RV.shape[1]),
        np.array(logits_RV, order="C"),
        rules,
        uniforms_R,
        states_R,
        ids_R,
    )
    return ids_R


def relative_probabilities(logits_RV: Float, rules: Rules) -> Double:
    """Distributions (R, V), relative to the likeliest character."""
    found_RV = np.zeros(logits_RV.shape)
    _relative(tables(logits_RV.shape[1]), np.ascontiguousarray(logits_RV), rules, found_RV)
    return found_RV


@numba.njit
def multiply(model, number, inputs_RQ):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The sums of a product."""
    return kernels.multiply(model, number, inputs_RQ)


@numba.njit
def _draw(model, logits_RV, rules, uniforms_R, utf8_R, ids_R):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for row in range(len(logits_RV)):
        ids_R[row] = kernels.draw(model, logits_RV[row], rules, row, uniforms_R[row], utf8_R)


@numba.njit
def _relative(model, logits_RV, rules, found_RV):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for row in range(len(logits_RV)):
        found_RV[row] = kernels.relative_probabilities(
            model, logits_RV[row], logits_RV[row].max(), rules, row
        )
