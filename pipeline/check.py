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
    """Write a file that never changes. The parameters were validated when they were loaded.

    Raises:
        ParamsError: the initial model does not exist.
    """
    # After a clone, DVC may have only the model's `.dvc` file. `dvc pull` gets the model.
    initial = (paths.initial, Path(f"{paths.initial}.dvc"))
    if str(paths.initial) != NOTHING and not any(path.exists() for path in initial):
        raise ParamsError(
            f"{PARAMS}: train.initial should be {NOTHING} or the folder of a model in this "
            f"project, got {paths.initial}; `charlstm new TEXT --from MODEL` adds a model"
        )
    write_text(paths.checked, "params.yaml was valid when this stage ran.\n")


if __name__ == "__main__":
    sys.exit(stage.run(run))
