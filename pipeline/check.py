"""Stage check: validation of all parameters, before DVC removes the outputs of other stages."""

import sys

from charlstm.files.atomic import write_text
from charlstm.params import Params
from pipeline.run import stage
from pipeline.run.dvc import Paths


def run(_: Params, paths: Paths) -> None:
    """Write a file that never changes. The parameters were validated when they were loaded."""
    write_text(paths.checked, "params.yaml was valid when this stage ran.\n")


if __name__ == "__main__":
    sys.exit(stage.run(run))
