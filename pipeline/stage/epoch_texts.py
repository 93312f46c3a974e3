"""What the model writes after each epoch of training, for people to watch. It is a view: no output has these texts."""

import faulthandler
import logging
import multiprocessing
from collections.abc import Callable, Sequence

from charlstm.generation.kernels import import_compiler
from charlstm.generation.sampler import Request, Sampler
from charlstm.history import EpochRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params
from charlstm.prompts import check_prompts, resolve_prompts
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.progress import Observer

log = logging.getLogger("charlstm")

NUM_PROMPTS = 2  # of `sample.prompts`, the first
NUM_CHARS, TEMPERATURE = 300, 0.8
SECONDS = 30  # in which the other processes of a training wait
WrittenText = tuple[str, str]  # a prompt, and how the model goes on
Show = Callable[[int, Sequence[WrittenText]], None]


def epoch_prompts(params: Params, val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """The prompts of these texts. All of `sample.prompts` are checked: what `sample` would refuse stops training, too.

    Raises:
        VocabularyError: a prompt has characters that training never saw; those of `auto` have none.
    """
    prompts = resolve_prompts(params.sample.prompts, val_ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    return prompts[:NUM_PROMPTS]


class EpochTexts(Observer):
    """The model writes after each epoch, and each of `shows` gets the epoch and texts.

    It writes in a process of its own: whatever happens there costs the texts of this epoch, and never the training.
    """

    def __init__(self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab, self._shows = vocab, shows
        import_compiler()  # in a fork it could wait for ever for an import of another thread, as that of tracking

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Write a text for each prompt."""
        try:
            texts = self._written(Sampler(model, self._vocab))
        except Exception as error:
            log.warning("epoch %d: no texts were written (%s); training goes on", row.epoch, error)
            return
        for show in self._shows:
            show(row.epoch, texts)

    def _written(self, sampler: Sampler) -> list[WrittenText]:
        def write() -> None:
            faulthandler.disable()
            try:
                generated = sampler.generate(self._requests)
                send.send([(one.prompt, text.text) for one, text in zip(self._requests, generated, strict=True)])
            except Exception as error:
                send.send(f"{type(error).__name__}: {error}")

        context = multiprocessing.get_context("fork")  # the model is there, and nothing is imported again
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=write, daemon=True)
        child.start()
        send.close()
        try:
            if not receive.poll(SECONDS):
                raise RuntimeError(f"not done after {SECONDS} seconds")
            answer: list[WrittenText] | str = receive.recv()
        except EOFError:
            child.join()
            raise RuntimeError(f"its process ended with {child.exitcode}") from None
        finally:
            child.kill()
            child.join()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer
