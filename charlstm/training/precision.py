"""The number format in which matrices are multiplied, with the reason for its choice."""

from functools import cache
from typing import NamedTuple

import torch

from charlstm.errors import TrainingError


class Precision(NamedTuple):
    """A number format, and the reason why it was chosen."""

    name: str
    reason: str


def choose_precision(asked: str, device_type: str) -> Precision:
    """Return the precision for `train.precision` on a kind of device.

    `auto` becomes bf16 if the hardware multiplies bf16, else fp32.

    Raises:
        TrainingError: this processor cannot compute an LSTM in that precision.
    """
    if asked == "bf16" and device_type == "cpu" and not has_bf16_lstm():
        raise TrainingError(
            "train.precision is bf16, and this processor computes no LSTM in it: set auto or fp32"
        )
    if asked != "auto":
        return Precision(asked, "as train.precision says")
    hardware = "processor" if device_type == "cpu" else "GPU"
    if multiplies_bf16(device_type):
        return Precision("bf16", f"this {hardware} multiplies bf16")
    return Precision("fp32", f"this {hardware} multiplies no bf16")


def multiplies_bf16(device_type: str) -> bool:
    """Return True if bf16 is faster than fp32 on this kind of device.

    That is so on CUDA devices from sm80 on, and on CPUs with AMX or AVX512-BF16.
    """
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        has_products = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return bool(has_products) and has_bf16_lstm()
    return False


@cache
def has_bf16_lstm() -> bool:
    """Return True if oneDNN computes an LSTM in bf16 on this processor.

    Without oneDNN, torch takes a hundred times longer.
    """
    one = torch.zeros(1, 1, 1)
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.lstm(one, [one, one], weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


def kind_of_device() -> str:
    """Return the kind of device that training will run on."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type
