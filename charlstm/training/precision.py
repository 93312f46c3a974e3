"""Which number formats the hardware multiplies natively."""

import torch


def multiplies_bf16() -> bool:
    """Whether bf16 is faster than fp32 here: CUDA from sm80 on, CPUs with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.accelerator.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
