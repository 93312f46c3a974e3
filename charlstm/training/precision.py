"""Which number formats the hardware multiplies natively."""

import torch


def multiplies_bf16(device_type: str) -> bool:
    """Whether bf16 is faster than fp32 on the devices that training uses: CUDA from sm80 on, CPUs with AMX or
    AVX512-BF16."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False
