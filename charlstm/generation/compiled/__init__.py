"""Writing texts in machine code, by numba (`pip install charlstm[fast]`), with the same results to the bit."""
