"""Which training makes the best model of a text in a given time, by how fast this machine was measured to be.

docs/data.md ("For the time that you have") has the rules, docs/benchmarks.md what they make of nine texts:

- **Width.** The widest model that reads `MIN_CHARS_PER_WEIGHT` characters for each of its weights in that time. It has
  at most `MAX_WEIGHTS_PER_CHAR` weights for each character of the text; of a short text, `MAX_WEIGHTS_OF_SHORT`.
- **Epochs.** As many as fit, up to `USEFUL_EPOCHS`.
"""

import json
import logging
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError, TrainingError
from charlstm.evaluation.baselines import NGramModel
from charlstm.files.documents import load_yaml, read_json
from charlstm.model.shape import ModelShape
from charlstm.params import Params
from charlstm.text.vocabulary import Vocab
from pipeline.new.proposal import (
    TRAIN_FRACTION,
    USEFUL_EPOCHS,
    Proposal,
    Text,
    Training,
    propose,
    sizes_for,
    useful_epochs,
)
from pipeline.new.text_report import ENDING_CHARS
from pipeline.stage.project import PIPELINE
from pipeline.stage.terminal import reason_of

log = logging.getLogger("charlstm")

# How fast this machine trains.

TIMING = "pipeline.new.timing"  # times the steps, in the processes that would train
REQUEST, ANSWER = "request.json", "answer.json"


class Request(NamedTuple):
    """A training that could be proposed."""

    params: Params
    max_seconds: float  # of a step: where one takes longer, the requests that follow are not answered


class Speed(NamedTuple):
    """How fast a training is, with all its processes."""

    seconds_per_step: float
    validated_per_second: float  # ids


def measure(requests: Sequence[Request], vocab_size: int) -> list[Speed]:
    """Time a few steps of each, on the hardware that stage train would use.

    Raises:
        TrainingError: one cannot be trained here. The message has the last line of what its process said.
    """
    log.info("timing training steps, for about half a minute ...")
    with tempfile.TemporaryDirectory(prefix="charlstm-") as name:
        folder = Path(name)
        rows = [(params.model_dump(mode="json"), max_seconds) for params, max_seconds in requests]
        (folder / REQUEST).write_text(json.dumps([vocab_size, rows]))
        command = train_command(TIMING, name)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise TrainingError(f"training steps could not be timed: {reason_of(done)}")
        return [Speed(*row) for row in read_json(folder / ANSWER)]


# The rules.

HIDDEN_SIZES = (64, 128, 192, 320, 512, 768, 1024, 1536)
MAX_EMBEDDING, MAX_BLOCK = 128, 512
LARGE = 500_000  # training characters: with more, steps are longer
MIN_CHARS_PER_WEIGHT = 3.0
SHORT, MAX_WEIGHTS_PER_CHAR, MAX_WEIGHTS_OF_SHORT = 300_000, 2.5, 4.0
USED = 1.05  # of the time, at most: epochs are whole, and 5 % too late is nearer to it than 20 % too early


class Plan(NamedTuple):
    """A training in a given time."""

    training: Training
    seconds: float
    speed: Speed


class Budget(NamedTuple):
    """A text, and how long a training of it may take."""

    text: Text
    seconds: float
    initial: ModelShape | None = None  # the sizes of a model to begin from

    @property
    def usable_seconds(self) -> float:
        """What a plan may take: epochs are whole, and a little too late is nearer to the time than much too early."""
        return USED * self.seconds

    @property
    def useful_epochs(self) -> int:
        """More epochs than this do not help."""
        return useful_epochs(self.text.num_train, begins_from_model=self.initial is not None)

    def candidates(self) -> list[Training]:
        """One epoch of each training that is to be timed, narrower models first."""
        text = self.text
        shapes = [shape_of(hidden_size, text.vocab_size) for hidden_size in HIDDEN_SIZES]
        if self.initial:
            shapes = [self.initial._replace(vocab_size=text.vocab_size)]
        sizes = (64, 64) if text.num_train > LARGE else sizes_for(text.num_train, USEFUL_EPOCHS)
        begins = self.initial is not None
        trainings = [Training(text.num_train, shape, 1, *sizes, begins_from_model=begins) for shape in shapes]
        max_weights = MAX_WEIGHTS_PER_CHAR if text.num_train > SHORT else MAX_WEIGHTS_OF_SHORT  # per character
        fitting = [one for one in trainings if one.shape.num_multiplied <= max_weights * text.num_train]
        return fitting or trainings[:1]

    def choose(self, timed: Sequence[tuple[Training, Speed]]) -> Plan:
        """The best of the trainings whose speed is known.

        Raises:
            CorpusError: the time is too short for any.
        """
        plans = [self.plan(training, speed) for training, speed in timed]
        possible = [plan for plan in plans if plan.training.epochs > 0]
        if not possible:
            seconds = min(self.epoch_seconds(training, speed) for training, speed in timed) / USED
            minutes = math.ceil(seconds / 6) / 10  # so much is enough
            raise CorpusError(
                f"--minutes {self.seconds / 60:g} is too short: to read the {self.text.num_train:,} characters of "
                f"the training part once takes {minutes:.1f} minutes here; give it more time, or a part of the text"
            )
        pairs = [(plan, plan.training) for plan in possible]
        has_read = [plan for plan, one in pairs if one.chars_seen >= MIN_CHARS_PER_WEIGHT * one.shape.num_multiplied]
        return (has_read or possible[:1])[-1]

    def plan(self, training: Training, speed: Speed) -> Plan:
        """As many epochs as fit, maybe none."""
        per_epoch = self.epoch_seconds(training, speed)
        epochs = min(int(self.usable_seconds / per_epoch), self.useful_epochs)
        return Plan(training._replace(epochs=epochs), epochs * per_epoch, speed)

    def epoch_seconds(self, training: Training, speed: Speed) -> float:
        """How long an epoch takes, with its validation."""
        steps = training._replace(epochs=1).num_steps
        return steps * speed.seconds_per_step + self.text.num_validated / speed.validated_per_second


def plan_within(
    budget: Budget, params_of: Callable[[Training], Params], measure: Callable[[Sequence[Request], int], list[Speed]]
) -> Plan:
    """The best training of the text in this time. `measure` times what could be proposed, which takes some seconds.

    Raises:
        CorpusError: the time is too short.
        TrainingError: steps cannot be timed.
    """
    trainings = budget.candidates()
    requests = []
    for training in trainings:
        min_steps = MIN_CHARS_PER_WEIGHT * training.shape.num_multiplied / (training.batch_size * training.context_len)
        requests.append(Request(params_of(training), budget.seconds / min_steps))
    return budget.choose(list(zip(trainings, measure(requests, budget.text.vocab_size), strict=False)))


def shape_of(hidden_size: int, vocab_size: int) -> ModelShape:
    """A model of one layer and a block."""
    return ModelShape(vocab_size, min(hidden_size // 2, MAX_EMBEDDING), hidden_size, 1, min(hidden_size, MAX_BLOCK))


# From a plan to parameters.


def proposal_of(plan: Plan, text: Text, quick: Mapping[str, object]) -> Proposal:
    """The parameters of a plan."""
    proposal = propose(text, quick, plan.training)
    step = f"{1000 * plan.speed.seconds_per_step:.0f} ms a step were measured"
    return proposal._replace(reasons=[*proposal.reasons, f"training takes {clock(plan.seconds)}: {step}"])


MIN_SCORED = 2_000  # characters of a text's end, to expect anything
# Of the best n-gram's bits: what models of other texts had after so many minutes (docs/benchmarks.md).
EXPECTED = {3: (0.78, 1.01), 15: (0.75, 0.95), 60: (0.73, 0.95)}


def expected_loss(ending: str, seconds: float) -> list[str]:
    """What loss can be expected, by the last part of a text; nothing where it or the time is too short to tell."""
    minutes = max((known for known in EXPECTED if seconds >= 60 * known), default=None)
    train, val = ending[: int(TRAIN_FRACTION * len(ending))], ending[int(TRAIN_FRACTION * len(ending)) :]
    if minutes is None or len(val) < MIN_SCORED:
        return []
    vocab = Vocab.of(ending)
    nats_K = NGramModel(vocab.encode(train), len(vocab)).nats(vocab.encode(val))
    of_what = "" if len(ending) < ENDING_CHARS else f" of the last {len(ending):,} characters"
    bits = min(nats_K) / (len(val) - 1) / math.log(2)
    low, high = (share * bits for share in EXPECTED[minutes])
    in_nats = f"{low * math.log(2):.2f} to {high * math.log(2):.2f} nats by the protocol stateful"
    nearest = "" if seconds == 60 * minutes else ", the longest time below this one that was measured"
    return [
        f"expected: {low:.2f} to {high:.2f} bits per character ({in_nats}), as other texts had after {minutes} "
        f"minutes{nearest}; the best n-gram{of_what} has {bits:.2f} bits"
    ]


def clock(seconds: float) -> str:
    """Minutes and seconds: `14:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def train_command(module: str, *arguments: str) -> list[str]:
    """The command of stage train with `module` in the place of the stage: so it runs on what that runs on."""
    words = shlex.split(load_yaml(PIPELINE)["stages"]["train"]["cmd"])
    words = [sys.executable if word == "python" else word for word in words if word not in ("exec", "pipeline.train")]
    return [*words, module, *arguments]
