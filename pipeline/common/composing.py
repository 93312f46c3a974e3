"""`params.yaml` from `conf/`, as `dvc exp run` composes it: DVC leaves that to Hydra, and so does this."""

from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.params import Params
from charlstm.storage.yaml_files import validate

HEADER = """\
# Composed from conf/, which has units and sources. `dvc exp run` writes this file anew, from another recipe with
# `-S recipe=...`. `dvc repro` takes it as it is.
"""


def compose(conf: Path, overrides: Sequence[str] = ()) -> str:
    """The text of `params.yaml` that `dvc exp run -S ...` would write, with a header.

    Raises:
        ParamsError: `conf` has a mistake, or the overrides make something impossible.
    """
    return HEADER + _composed(conf, overrides)[0]


def compose_params(conf: Path, overrides: Sequence[str] = ()) -> Params:
    """The same as parameters, checked.

    Raises:
        ParamsError: as above, or a value is wrong.
    """
    return validate(Params, _composed(conf, overrides)[1], conf / "config.yaml")


def _composed(conf: Path, overrides: Sequence[str]) -> tuple[str, object]:
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        with initialize_config_dir(str(conf.absolute()), version_base=None):
            config = compose_config("config", list(overrides))
        OmegaConf.resolve(config)
        return OmegaConf.to_yaml(config), OmegaConf.to_container(config, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ParamsError(f"{conf}: {' '.join(str(error).split())}") from None
