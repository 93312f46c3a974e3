"""The DVC stages: each parses, loads its parameters, calls the library and writes. See `dvc.yaml`.

It also sets how threads wait for each other in all that is started from here. torch's OpenMP (libgomp) reads that when
it is loaded, so this is done before any module below is imported.
"""

import os

# How often a thread looks whether the others are done before it sleeps. libgomp's default, 300,000, takes milliseconds:
# beside other busy processes, a thread then spins on the core that the last one waits for, at each step of the LSTM.
# With too few, an idle machine is slower: to wake a thread takes longer than most waits. `python -m benchmarks.threads`
SPIN_COUNT = 1_000

if "OMP_WAIT_POLICY" not in os.environ:  # the user chose
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
