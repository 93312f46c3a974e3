"""Parts of the compiled sampler that only compiled code can call."""

from functools import cache

import numba
import numpy as np

from charlstm.generation import kernels
from charlstm.generation.kernels import Double, Float, Ids, PackedModel, Rules
from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import packed
from charlstm.model.shape import ModelShape
from tests.support.models import random_model


@cache
def tables(vocab_size: int) -> PackedModel:
    """Return a model that is used only for its tables and its vocabulary's size."""
    return packed(quantize(random_model(ModelShape(vocab_size, 1, 1, 1))))


def draw(logits_RV: Float, rules: Rules, uniforms_R: Double, utf8_R: Ids | None = None) -> Ids:
    """Return the ids (R,) of one drawn character per row."""
    states_R = np.full(len(logits_RV), -1) if utf8_R is None else utf8_R.copy()
    ids_R = np.zeros(len(logits_RV), np.int64)
    model = tables(logits_RV.shape[1])
    _draw(model, np.array(logits_RV, order="C"), rules, uniforms_R, states_R, ids_R)
    return ids_R


def relative_probabilities(logits_RV: Float, rules: Rules) -> Double:
    """Return distributions (R, V), relative to the likeliest character."""
    found_RV = np.zeros(logits_RV.shape)
    _relative(np.ascontiguousarray(logits_RV), rules, found_RV)
    return found_RV


@numba.njit
def multiply(model, number, inputs_RQ):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return the sums of a product."""
    return kernels.multiply(model, number, inputs_RQ, np.ones(len(inputs_RQ), np.float32))


@numba.njit
def predict(model, hidden_RLH):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return logits (R, V) of the next character."""
    return kernels.predict(model, hidden_RLH)


@numba.njit
def _draw(*arguments):  # type: ignore  # noqa: ANN002, ANN202
    model, logits_RV, rules, uniforms_R, utf8_R, ids_R = arguments
    for row in range(len(logits_RV)):
        ids_R[row] = kernels.draw(model, logits_RV[row], rules, row, uniforms_R[row], utf8_R)


@numba.njit
def _relative(logits_RV, rules, found_RV):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for row in range(len(logits_RV)):
        largest = logits_RV[row].max()
        found_RV[row] = kernels.relative_probabilities(logits_RV[row], largest, rules, row)
