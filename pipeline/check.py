"""Stage check: every parameter is valid. It runs first, because DVC removes the outputs of a stage before it runs."""

import sys

from charlstm.files.atomic import write_text
from charlstm.params import Params
from pipeline.run import stage
from pipeline.run.dvc import Paths


def run(_: Params, paths: Paths) -> None:
    """Write a file that never changes. Loading the parameters has checked them."""
    write_text(paths.checked, "params.yaml was valid when this stage ran.\n")


if __name__ == "__main__":
    sys.exit(stage.run(run))
