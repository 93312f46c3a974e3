"""`params.yaml` from `conf/`, as `dvc exp run` composes it: DVC leaves that to Hydra, and so does this."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import ParamsError
from charlstm.params import Params
from charlstm.storage.yaml_files import validate

HEADER = """\
# Composed from conf/, which has units and sources. `dvc exp run` writes this file anew, from another recipe with
# `-S recipe=...`. `dvc repro` takes it as it is.
"""


class Composed(NamedTuple):
    """The text of `params.yaml`, with a header, and the parameters in it."""

    text: str
    params: Params


def compose(conf: Path, overrides: Sequence[str] = ()) -> Composed:
    """What `dvc exp run -S ...` would write.

    Raises:
        ParamsError: `conf` has a mistake, or the overrides make something impossible.
    """
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]  # of PyYAML, which Hydra reads with

    try:
        with initialize_config_dir(str(conf.absolute()), version_base=None):
            config = compose_config("config", list(overrides))
        OmegaConf.resolve(config)
        values = OmegaConf.to_container(config, throw_on_missing=True)
        text = OmegaConf.to_yaml(config)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ParamsError(f"{conf}: {' '.join(str(error).split())}") from None
    return Composed(HEADER + text, validate(Params, values, conf / "config.yaml"))


def compose_params(conf: Path, overrides: Sequence[str] = ()) -> Params:
    """The parameters alone."""
    return compose(conf, overrides).params
