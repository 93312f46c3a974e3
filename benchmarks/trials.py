"""What commands share that train in their own process, by the library and without a stage around it."""

from collections.abc import Callable
from itertools import cycle

import torch
from accelerate.state import AcceleratorState

from charlstm.params import Params
from charlstm.text.encoded_files import load_parts
from charlstm.training.learner import Learner
from charlstm.training.loop import Data
from charlstm.training.processes import Processes
from pipeline.hardware import keep_freed_memory, set_num_threads, use_reproducible_kernels, work_of
from pipeline.run.dvc import load_paths
from tests.support.projects import ROOT, compose


def load_data() -> Data:
    """What stage encode wrote."""
    vocab, (train, val) = load_parts(ROOT / load_paths(ROOT / "dvc.yaml").encoded, ("train", "val"))
    return Data(train, val, vocab)


def fresh_processes(params: Params) -> Processes:
    """This process alone, in the precision of `params`, also if another training was here before."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    AcceleratorState._reset_state(reset_partial_state=True)
    return Processes(params.train.precision)


def make_learner(*overrides: str) -> Learner:
    """What trains the encoded corpus with these overrides (`tests.support.projects.compose`)."""
    params, data = compose(ROOT, overrides), load_data()
    return Learner(data.train, len(data.vocab), params.model, params.train, fresh_processes(params))


def take_steps(learner: Learner) -> Callable[[], None]:
    """A function that takes the next step of the first epoch; after the last on a whole batch comes the first again."""
    numbers = cycle(range(learner.batches.steps_per_epoch - 1))

    def step() -> None:
        number = next(numbers)
        learner.take_step(number, 1, number)
        if torch.cuda.is_available():  # it has done what it was told when this returns
            torch.cuda.synchronize()

    return step
