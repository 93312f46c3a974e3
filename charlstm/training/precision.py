"""The choice of the number format in which matrices are multiplied."""

from functools import cache
from typing import NamedTuple

import torch

from charlstm.errors import TrainingError

MIN_CUDNN = 91300  # torch needs cuDNN 9.13 or newer to compute an LSTM in bf16


class Precision(NamedTuple):
    """A number format, and the reason why it was chosen."""

    name: str
    reason: str


def choose_precision(asked: str, device_type: str) -> Precision:
    """Return the precision that `train.precision` selects on this type of device.

    `auto` selects bf16 if the hardware can multiply bf16 numbers, and fp32 otherwise.

    Raises:
        TrainingError: this processor cannot compute an LSTM in that precision.
    """
    if asked == "bf16" and device_type == "cpu" and not has_bf16_lstm():
        raise TrainingError(
            "train.precision is bf16, but this processor cannot compute an LSTM in bf16; set "
            "train.precision to 'auto' or 'fp32'"
        )
    if asked != "auto":
        return Precision(asked, "set by train.precision")
    hardware = "processor" if device_type == "cpu" else "GPU"
    if multiplies_bf16(device_type):
        return Precision("bf16", f"this {hardware} can multiply bf16")
    or_cudnn = ", or cuDNN is older than 9.13" if device_type == "cuda" else ""
    return Precision("fp32", f"this {hardware} cannot multiply bf16{or_cudnn}")


def multiplies_bf16(device_type: str) -> bool:
    """Return whether bf16 is faster than fp32 on this type of device.

    It is faster on CUDA devices from sm80 on with cuDNN 9.13, and on CPUs with AMX or AVX512-BF16.
    """
    if device_type == "cuda":
        version: int = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
        is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return bool(is_supported) and version >= MIN_CUDNN
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        has_products = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return bool(has_products) and has_bf16_lstm()
    return False


@cache
def has_bf16_lstm() -> bool:
    """Return whether oneDNN can compute an LSTM in bf16 on this processor.

    Without oneDNN, torch takes a hundred times as long.
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
    """Return the type of device on which training will run, such as `cpu` or `cuda`."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type
