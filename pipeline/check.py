"""Stage check: validation of all parameters, before DVC removes the outputs of other stages."""

from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.params import NOTHING
from pipeline.run.preflight import check_text, is_downloaded
from pipeline.run.project import PARAMS
from pipeline.run.stage import Stage


def run(stage: Stage) -> None:
    """Check that the initial model and the text suit the parameters, which are valid by themselves.

    Then write a file that never changes. A text that is not there yet is checked by stage download.

    Raises:
        CharlstmError: the initial model does not exist, or a parameter does not suit the text.
    """
    params = stage.params
    paths = stage.paths
    # After `git clone`, only the model's `.dvc` file exists, until `dvc pull` gets the model.
    initial = (paths.initial, Path(f"{paths.initial}.dvc"))
    if str(paths.initial) != NOTHING and not any(path.exists() for path in initial):
        raise ParamsError(
            f"{PARAMS}: train.initial must be {NOTHING} or a model folder in this project, got "
            f"{paths.initial}; add a model with `charlstm new TEXT --from MODEL`"
        )
    if is_downloaded(params, paths):
        check_text(params, paths)
    write_text(paths.checked, "params.yaml was valid when this stage ran.\n")
