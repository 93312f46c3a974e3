"""Stage check: validation of all parameters, before DVC removes the outputs of other stages."""

import sys
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.params import NOTHING, Params
from pipeline.run import stage
from pipeline.run.dvc import Paths
from pipeline.run.project import PARAMS


def run(_: Params, paths: Paths) -> None:
    """Check that the initial model exists, then write a file that never changes.

    The parameters were validated when they were loaded.

    Raises:
        ParamsError: the initial model does not exist.
    """
    # After `git clone`, only the model's `.dvc` file exists, until `dvc pull` gets the model.
    initial = (paths.initial, Path(f"{paths.initial}.dvc"))
    if str(paths.initial) != NOTHING and not any(path.exists() for path in initial):
        raise ParamsError(
            f"{PARAMS}: train.initial must be {NOTHING} or a model folder in this project, got "
            f"{paths.initial}; add a model with `charlstm new TEXT --from MODEL`"
        )
    write_text(paths.checked, "params.yaml was valid when this stage ran.\n")


if __name__ == "__main__":
    sys.exit(stage.run(run))
