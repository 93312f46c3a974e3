"""`charlstm tune`: a search for better values of the parameters, and its winner as a recipe."""

import base64
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from filelock import FileLock
from rich.console import Console
from rich.table import Table

from charlstm.errors import Interrupted, ParamsError, TrainingError
from charlstm.evaluation.blocks import BLOCK_LEN
from charlstm.evaluation.difference import MIN_BLOCKS, MORE_SEEDS
from charlstm.files.atomic import write_text
from charlstm.sections import short_name, shown, values_in_words
from charlstm.tracking.client import CORPUS_TAG, SWEEP_OF_TAG
from charlstm.tracking.runs import Run
from pipeline.commands.new import MINUTE, a_time
from pipeline.commands.recipe import check_name, write_preset
from pipeline.doctor.examination import examine_training
from pipeline.dvc.queue import run_dvc
from pipeline.dvc.unfinished import SEARCHES
from pipeline.stage import presets
from pipeline.stage.interruption import handle_signals
from pipeline.stage.presets import RECIPES
from pipeline.stage.project import LOCK, from_here
from pipeline.stage.sending import outbox
from pipeline.stage.terminal import plain_console, printable
from pipeline.tune.search import AGAIN, Plan, Watch, difference_of, name_of, read_plan, search
from pipeline.tune.study import DONE, PRUNED, RUNNING, Study, Trial

PAGE, COMMAND = Path("tune.html"), "tune"
CAPTIONS = {
    "history": "The loss of each trial, and the lowest until then",
    "parallel": "A line for each trial, through its loss and its values: the darker, the lower the loss",
    "importance": "How much of the differences between losses is guessed to be due to each parameter",
    "values": "The loss by each parameter alone: a dot for each trial",
}
DEFAULT_TRIALS = 30
MAX_SHOWN = 5  # trials in the table
SECONDS_BETWEEN_UPDATES = 1.0


def tune(
    minutes: Annotated[
        float | None,
        typer.Option(
            help="For the trials. By default, as many as they take.",
            show_default=False,
            callback=a_time,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Those of earlier calls count. By default {DEFAULT_TRIALS}, or as many as the minutes allow.",
            show_default=False,
        ),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(
            help="What is varied, as a YAML file. By default, `conf/tune.yaml`.", show_default=False, callback=from_here
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the recipe that the winner becomes.")] = "tuned",
) -> int:
    """Search for better parameters, and make them a recipe.

    The search is around `params.yaml`, for its text. Trial 0 is what stands there. Each trial is a whole training, and
    is stopped early when its loss is worse than that of most. The same command goes on with a search, also after a
    kill, and several of them share it. The winner becomes `conf/recipe/NAME.yaml`.
    """
    limit = trials or (DEFAULT_TRIALS if minutes is None else None)
    plan = read_plan(parameters or presets.CONF / "tune.yaml")
    path = check_name(RECIPES, name)
    _encode()
    deadline = time.monotonic() + minutes * MINUTE if minutes is not None else None
    for note in plan.space.notes:
        typer.echo(note)
    study = Study(SEARCHES / plan.identity(), plan.space)
    _check_is_own(path, study)
    console, label = plain_console(soft_wrap=True), around(plan, name)
    if not study.trials():
        _send(plan, study, label, "The search is under way.", is_over=False)
    with study.at_work():
        _search(console, plan, study, limit, deadline, name)
    with console.status("pictures, and the run in MLflow"):
        files, (head, *rows) = _draw(console, plan, study, label), rows_of(plan, study)
        table = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
        about = "\n".join(["The best trials of `charlstm tune`:", "", *table])
        _send(plan, study, label, about, files, is_over=not study.is_worked_on())
    return 0


def _search(console: Console, plan: Plan, study: Study, limit: int | None, deadline: float | None, name: str) -> None:
    """Search, and show what was found, also when asked to stop."""
    with handle_signals() as interruption:
        screen = Screen(console, plan, study, limit, deadline)
        watch = Watch(screen.begin, screen.end, screen.wait, lambda: interruption.should_stop() or screen.is_late())
        try:
            stopped = search(plan, study, limit, watch)
        except ParamsError:  # the text may be another: models of the search are not measured on it
            screen.close()
            _show_table(console, plan, study)
            raise
        except (Interrupted, TrainingError):
            screen.close()
            _show_result(console, plan, study, name)  # what was found until then is kept
            raise
        finally:
            screen.close()
        if stopped is not None:
            console.print(f"trial {stopped.number} was stopped; the next `charlstm tune` goes on with it")
        _show_result(console, plan, study, name)
        if interruption.should_stop():
            raise Interrupted("stopped as asked")


def _encode() -> None:
    """Have DVC make what trainings read, and check that they can start.

    Raises:
        ParamsError: they cannot.
    """
    lock = SEARCHES / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # DVC gives up soon where another one works
        code = run_dvc("repro", "encode", is_quiet=True)
    if code:
        raise ParamsError("`dvc repro encode` has failed, see above")
    if errors := [finding.text for finding in examine_training() if finding.is_error]:
        raise ParamsError("; ".join(errors))


class Screen:
    """Shows what the search does: a line for each trial, and on a terminal the one that is under way."""

    def __init__(self, console: Console, plan: Plan, study: Study, limit: int | None, deadline: float | None) -> None:
        self._console, self._plan, self._study, self._limit, self._deadline = console, plan, study, limit, deadline
        self._status = console.status("")
        self._updated = 0.0

    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def begin(self, trial: Trial) -> None:
        """A trial begins, or is resumed."""
        if self._console.is_terminal:
            self._status.start()
        else:
            self._console.print(f"trial {trial.number} begins: {self._words(trial)}")

    def wait(self, trial: Trial) -> None:
        """It is under way."""
        if self._console.is_terminal and time.monotonic() - self._updated > SECONDS_BETWEEN_UPDATES:
            self._updated, loss = time.monotonic(), self._study.trials()[trial.number].loss
            now = [f"trial {trial.number}: {self._words(trial)}", *([f"loss {loss:.4f}"] if loss else [])]
            self._status.update(" · ".join(printable(part) for part in [*now, *self._standing(), *self._left()]))

    def end(self, trial: Trial) -> None:
        """It has ended."""
        if trial.state == DONE:
            became = f"{trial.loss:.4f}"
        elif trial.state == PRUNED:
            became = f"stopped early at {trial.loss:.4f}"
        else:
            became = f"failed: {trial.reason}"
        self._console.print(" · ".join([f"trial {trial.number}: {became}", self._words(trial), *self._standing()]))

    def close(self) -> None:
        """Leave the terminal in order."""
        self._status.stop()

    def _words(self, trial: Trial) -> str:
        return values_in_words(self._plan.changes(trial.values)) or "as params.yaml says"

    def _standing(self) -> list[str]:
        best = self._study.done()
        first = self._study.trials()[0]
        before = [f"trial 0 {first.loss:.4f}"] if first.state == DONE else []
        return [f"best {best[0].loss:.4f} (trial {best[0].number})", *before] if best else before

    def _left(self) -> list[str]:
        trials = self._study.trials().values()
        ended = [trial.seconds for trial in trials if trial.seconds is not None]
        seconds = [self._deadline - time.monotonic()] if self._deadline is not None else []
        if self._limit is not None and ended:
            num_workers = max(1, sum(trial.state == RUNNING for trial in trials))
            # The median, since a trial that was interrupted counts the time until it went on, too.
            seconds.append(statistics.median(ended) * (self._limit - len(ended)) / num_workers)
        return [f"{timedelta(seconds=round(max(0.0, min(seconds))))} left"] if seconds else []


def rows_of(plan: Plan, study: Study) -> list[list[str]]:
    """The table of the best trials, and of trial 0: a column for each, with its loss and its values."""
    best = study.done()
    some = best[:MAX_SHOWN] + [trial for trial in best[MAX_SHOWN:] if trial.number == 0]
    values = [[short_name(name), *(shown(one.values[name]) for one in some)] for name in plan.space.varied]
    losses = ["loss", *(f"{one.loss:.4f}" for one in some)]
    return [["trial", *(str(one.number) for one in some)], losses, *values]


def in_words(study: Study) -> str:
    """How many trials it has."""
    states = [trial.state for trial in study.trials().values()]
    return f"{len(states)} trials, {states.count(PRUNED)} of them stopped early"


def around(plan: Plan, name: str) -> str:
    """What the search is around, in words: a recipe but its own, with changes."""
    return presets.nearest(RECIPES, plan.params.values(), without=name).label


# What the search ends with.


def _show_result(console: Console, plan: Plan, study: Study, name: str) -> None:
    """Print the table, and make the winner a recipe."""
    _show_table(console, plan, study)
    all_trials, best = study.trials(), study.done()
    num_tried, num_varied = sum(one.seconds is not None for one in all_trials.values()) - 1, len(plan.space.varied)
    if 0 <= num_tried < num_varied:
        console.print(f"tried: {num_tried} of the {num_varied} single changes that come first; {AGAIN}")
    if 0 not in all_trials or all_trials[0].loss is None or all_trials[0].state != DONE:
        console.print("trial 0, what params.yaml says, has not ended: there is nothing to compare with yet")
    elif best[0].number == 0:
        console.print(f"no trial has a lower loss than what params.yaml says, {best[0].loss:.4f}: no recipe is written")
    else:
        _write_recipe(console, plan, study, name, best[0], all_trials[0])


def _show_table(console: Console, plan: Plan, study: Study) -> None:
    """Print the best trials, if any has ended."""
    head, *rows = rows_of(plan, study)
    table = Table(title=f"{in_words(study)} (nats per character)")
    for column in head:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    if study.done():
        console.print(table)


def _write_recipe(console: Console, plan: Plan, study: Study, name: str, winner: Trial, first: Trial) -> None:
    path = check_name(RECIPES, name)
    _check_is_own(path, study)
    _, params = plan.params_with(winner.values)
    losses = f"{winner.loss:.4f} nats/char, {first.loss:.4f} before"
    about = write_preset(RECIPES, name, params.values(), f". {_mark(study)} trial {winner.number}: {losses}.", COMMAND)
    console.print(f"{path}: {about}; {losses}")
    found = difference_of(plan, study, winner, first)
    console.print(f"by windowed_{plan.params.train.validation_context_len}: {found}")
    force = ""
    try:
        presets.check_kept(RECIPES, params.values())
    except ParamsError:  # what params.yaml has is trial 0's, and the winner has another value there
        is_as_it_was = presets.current_values() == plan.params.values()
        force = " --force" if is_as_it_was else ""
    command = f"charlstm recipe {name}{force} && dvc repro"
    if found.is_beyond_text and found.best.name == name_of(winner):
        seeds = f"{MORE_SEEDS} && charlstm recipe {name}{force} && {MORE_SEEDS}"
        console.print(f"the best of several trials is partly luck: more seeds of both recipes tell how much: {seeds}")
        console.print(f"to train the winner at once: {command}")
    else:
        is_short = found.by_text is None  # and no search makes it longer
        why = (
            f"the validation part is shorter than {MIN_BLOCKS * BLOCK_LEN:,} characters, too short to tell: "
            if is_short
            else ""
        )
        search_on = "" if is_short else f", or search on ({AGAIN})"
        console.print(f"{why}keep what params.yaml says{search_on}; to train the winner all the same: {command}")


def _mark(study: Study) -> str:
    return f"Found by `charlstm tune`, search {study.folder.name},"


def _check_is_own(path: Path, study: Study) -> None:
    """Check that nothing but what this search wrote is written over.

    Raises:
        ParamsError: the recipe is another's, or was edited.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    if text is not None and _mark(study) not in text:
        raise ParamsError(f"{path} is there already, and not of this search: take another --name, or remove it")
    if text is not None and not presets.is_as_written(text, COMMAND):
        raise ParamsError(f"{path}: it was edited, and stays: take another --name, or remove it")


def _draw(console: Console, plan: Plan, study: Study, label: str) -> list[Path]:
    """Draw pictures, for the page and for MLflow; nothing of a single trial."""
    pictures = study.draw_pictures()
    if not pictures:
        return []
    from charlstm.report.plots import plot_sweep  # pictures take a second to import

    done = study.done()
    values = {short_name(name): [str(trial.values[name]) for trial in done] for name in plan.space.varied}
    pictures.append(study.folder / "values.png")
    plot_sweep(pictures[-1], values, [trial.loss or 0.0 for trial in done], "nats per character")
    write_text(PAGE, _page(plan, study, label, pictures))
    console.print(f"all trials as pictures: {PAGE}")
    return [*pictures, PAGE]


def _page(plan: Plan, study: Study, label: str, pictures: Sequence[Path]) -> str:
    """The table and the pictures as a page that needs no other file."""
    from charlstm.report.page import environment  # it takes jinja

    page = environment().get_template("search.html")
    return page.render(
        corpus=plan.params.download.name,
        recipe=label,
        about=in_words(study),
        rows=rows_of(plan, study),
        pictures=[(CAPTIONS[file.stem], base64.b64encode(file.read_bytes()).decode()) for file in pictures],
    )


def _send(plan: Plan, study: Study, label: str, about: str, files: Sequence[Path] = (), *, is_over: bool) -> None:
    """Write the run above all trials, made if it is not there, which runs until the last worker ends."""
    search_id, tags = study.folder.name, {CORPUS_TAG: plan.params.download.name}
    run = Run(outbox(), f"{search_id}-{token_hex(4)}", tag=SWEEP_OF_TAG, value=search_id, tags=tags)
    run.set_tags({"mlflow.runName": f"tune around {label}", "mlflow.note.content": about})
    for file in files:
        run.log_file(file, "tune")
    if is_over:
        run.end("FINISHED")
    run.close()
