"""The number format in which matrices are multiplied, and why it is this one."""

from functools import cache
from typing import NamedTuple

import torch

from charlstm.errors import TrainingError


@cache
def has_bf16_lstm() -> bool:
    """Whether oneDNN computes an LSTM in bf16 on this processor: else torch takes a hundred times longer."""
    one = torch.zeros(1, 1, 1)
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.lstm(one, [one, one], weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


def multiplies_bf16(device_type: str) -> bool:
    """Whether bf16 is faster than fp32 on the devices that training uses: CUDA from sm80 on, CPUs with AMX or
    AVX512-BF16."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return has_bf16_lstm() and bool(
            capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        )
    return False


class Precision(NamedTuple):
    """A number format, and why it is this one."""

    name: str
    reason: str


def choose_precision(asked: str, device_type: str) -> Precision:
    """What `train.precision` means on such a device: `auto` is bf16 where the hardware multiplies it, else fp32.

    Raises:
        TrainingError: this processor cannot compute in it.
    """
    if asked == "bf16" and device_type == "cpu" and not has_bf16_lstm():
        raise TrainingError(
            "train.precision is bf16, and this processor computes no LSTM in it: set auto or fp32"
        )
    if asked != "auto":
        return Precision(asked, "as train.precision says")
    hardware = "processor" if device_type == "cpu" else "GPU"
    if multiplies_bf16(device_type):
        return Precision("bf16", f"this {hardware} multiplies it")
    return Precision("fp32", f"this {hardware} multiplies no bf16")


def kind_of_device() -> str:
    """The kind of device that training will run on."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else str(accelerator.type)
