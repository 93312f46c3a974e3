"""Gates against their equations in numpy, with derivatives by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from charlstm.model.gates import LSTMState
from charlstm.model.layers import FusedLayer, GatesLayer

T = 5
B = 3
IN = 4
H = 6
GATES = ("forget_gate", "input_gate", "candidate", "output_gate")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def numpy_layer(
    w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the hidden states, and the gradients of their sum with respect to the weights.

    The gradients come from back-propagation through time.
    """
    steps = []
    outputs = []
    for x_t in x:
        z = {
            g: x_t @ w[f"cell.{g}.from_input.weight"].T
            + h @ w[f"cell.{g}.from_hidden.weight"].T
            + w[f"cell.{g}.from_input.bias"]
            for g in GATES
        }
        f, i, o = (sigmoid(z[g]) for g in ("forget_gate", "input_gate", "output_gate"))
        n = np.tanh(z["candidate"])
        c_new = f * c + i * n
        steps.append((x_t, h, c, f, i, n, o, c_new))
        h = o * np.tanh(c_new)
        c = c_new
        outputs.append(h)
    grads = {name: np.zeros_like(value) for name, value in w.items()}
    dh = np.zeros_like(h)
    dc = np.zeros_like(c)
    for x_t, h_old, c_old, f, i, n, o, c_new in reversed(steps):
        dh = dh + 1  # the loss is the sum of all outputs
        dc = dc + dh * o * (1 - np.tanh(c_new) ** 2)
        dz = {
            "forget_gate": dc * c_old * f * (1 - f),
            "input_gate": dc * n * i * (1 - i),
            "candidate": dc * i * (1 - n**2),
            "output_gate": dh * np.tanh(c_new) * o * (1 - o),
        }
        dh = np.zeros_like(h)
        dc = dc * f
        for g, d in dz.items():
            grads[f"cell.{g}.from_input.weight"] += d.T @ x_t
            grads[f"cell.{g}.from_hidden.weight"] += d.T @ h_old
            grads[f"cell.{g}.from_input.bias"] += d.sum(0)
            dh = dh + d @ w[f"cell.{g}.from_hidden.weight"]
    return np.stack(outputs), grads


def gradients(layer: torch.nn.Module) -> dict[str, Tensor]:
    for weight in layer.parameters():
        if weight.requires_grad:
            assert weight.grad is not None
            weight.data = weight.grad
    return layer.state_dict()


@pytest.mark.parametrize("kind", [GatesLayer, FusedLayer])
def test_layer_equals_numpy_in_outputs_and_gradients(kind: type) -> None:
    torch.manual_seed(0)
    layer = kind(IN, H).double()
    weights = {name: value.numpy().copy() for name, value in layer.state_dict().items()}
    x = torch.randn(T, B, IN).double()
    h, c = torch.randn(2, B, H).double()
    expected, expected_grads = numpy_layer(weights, x.numpy(), h.numpy(), c.numpy())

    hidden_TBH, last = layer(x, LSTMState(h, c))
    hidden_TBH.sum().backward()

    np.testing.assert_allclose(hidden_TBH.detach().numpy(), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(last.hidden.detach().numpy(), expected[-1], rtol=0, atol=1e-10)
    grads = gradients(layer)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad.numpy(), expected_grads[name], rtol=0, atol=1e-8)
