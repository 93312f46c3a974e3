"""Memory that a training needs: what says that there is not enough."""

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised it because it got no memory; on a CPU that is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
