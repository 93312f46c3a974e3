"""What `charlstm new` says."""

import sys

from charlstm.training.processes import multiplies_bf16
from pipeline.new.corpus import New
from pipeline.new.looking import oddities, summary
from pipeline.stage.hardware import num_cores
from pipeline.stage.terminal import printable

MINUTE, HOUR = 60, 3600


def report(new: New) -> list[str]:
    """What the text is, what is odd about it, and what is proposed for it; safe to show on a terminal."""
    lines = [new.source.shown, *(f"  {line}" for line in summary(new.look))]
    lines += [f"  ! {line}" for line in oddities(new.look)]
    if len(new.source.files) > 1:
        lines.append(f"  {_joined(new)}")
    lines += ["proposal:", *(f"  {line}" for line in new.proposal.reasons), f"  {_duration(new)}"]
    return [printable(line.replace("\n", "\\n"), sys.stdout.encoding or "utf-8") for line in lines]


def closing(new: New) -> str:
    """What was written, and the way back."""
    written = " ".join(str(path) for path in new.files)
    return f"written: {written}\nback to tiny Shakespeare: charlstm new tiny-shakespeare"


def _joined(new: New) -> str:
    number = len(new.source.files)
    if new.separator:
        return f"{number} documents, with {new.separator!r} between them, after which the model's state begins anew"
    return f"{number} files in this order, with a line break between them (--documents: the state begins anew in each)"


def _duration(new: New) -> str:
    cores = num_cores()
    duration = _rounded(new.proposal.seconds(cores, multiplies_bf16("cpu")))
    where = "1 core" if cores == 1 else f"{cores} cores"
    return (
        f"about {duration} of training on {where}, by the speeds in docs/recipes.md, if nothing else runs; "
        f"a GPU or more processes are faster: see docs/distributed.md"
    )


def _rounded(seconds: float) -> str:
    if seconds < MINUTE:
        return "a minute"
    if seconds < 2 * HOUR:
        return f"{round(seconds / MINUTE)} minutes" if seconds >= 1.5 * MINUTE else "a minute"
    return f"{round(seconds / HOUR)} hours"
