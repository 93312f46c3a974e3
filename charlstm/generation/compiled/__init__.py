"""Writing texts in machine code, by numba (the extra `fast`), with the same results to the bit."""
