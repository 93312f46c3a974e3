"""Run a stage: `python -m pipeline STAGE`."""

import time

STARTED = time.time()  # before the imports, so that a later edit of imported code is noticed

import sys  # noqa: E402

from pipeline.run.stage import end_process, main  # noqa: E402

if __name__ == "__main__":
    end_process(main(sys.argv[1:], STARTED))
