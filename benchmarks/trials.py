"""Training in the process of a benchmark, by the library and without a stage."""

from collections.abc import Callable
from itertools import cycle

from accelerate.state import AcceleratorState

from charlstm.params import Params
from charlstm.text.encoded import load_parts
from charlstm.training.learner import Learner
from charlstm.training.loop import Data
from charlstm.training.processes import Processes
from pipeline.hardware import keep_freed_memory, set_num_threads, use_reproducible_kernels, work_of
from pipeline.run.dvc import load_paths
from tests.support.projects import ROOT, compose


def load_data() -> Data:
    """Return the output of stage encode."""
    vocab, (train, val) = load_parts(ROOT / load_paths(ROOT / "dvc.yaml").encoded, ("train", "val"))
    return Data(train, val, vocab)


def fresh_processes(params: Params) -> Processes:
    """Return this process alone, in the precision of `params`, independent of earlier runs."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    AcceleratorState._reset_state(reset_partial_state=True)
    return Processes(params.train.precision)


def make_learner(*overrides: str) -> Learner:
    """Return a learner of the encoded corpus with these overrides, as in `compose`."""
    params = compose(ROOT, overrides)
    data = load_data()
    return Learner(data.train, len(data.vocab), params.model, params.train, fresh_processes(params))


def take_steps(learner: Learner) -> Callable[[], None]:
    """Return a function that takes the next step of the first epoch, and repeats the epoch."""
    # The last batch of an epoch may be cut.
    numbers = cycle(range(learner.batches.steps_per_epoch - 1))

    def step() -> None:
        number = next(numbers)
        learner.take_step(number, 1, number)

    return step
