"""Checks of the parameters against the text, before DVC removes the outputs of a stage."""

import psutil

from charlstm.corpus.parts import decoded, parts_of
from charlstm.errors import ParamsError
from charlstm.files.atomic import read_pieces
from charlstm.parameter_names import flatten
from charlstm.params import AUTO, NOTHING, Params
from charlstm.text.alphabet import choose_alphabet, count_characters
from charlstm.text.prompts import check_prompts
from charlstm.text.vocabulary import ByteVocab, Vocab
from charlstm.training.sizes import check_warmup, shape_of, steps_per_epoch
from pipeline.run.dvc import Paths, inputs_of, read_lock

GIB = 2**30
# Weights, gradients, their moving average, and the average of the weights, in fp32.
BYTES_PER_PARAMETER = 16


def is_downloaded(params: Params, paths: Paths) -> bool:
    """Return whether the text is there, and stage download would leave it as it is."""
    lock = read_lock()
    recorded = lock.files("deps", "download") | flatten(lock.params("download"))
    inputs = inputs_of("download", params)
    return paths.corpus.exists() and inputs.items() <= recorded.items()


def check_text(params: Params, paths: Paths) -> None:
    """Check that the downloaded text can be split, encoded and used for training.

    Raises:
        CharlstmError: a parameter does not suit the text or this machine.
    """
    text = paths.corpus
    split = params.split
    parts = parts_of(text, split.val_fraction, split.test_fraction)
    vocab: Vocab = ByteVocab()
    num_ids = parts["train"].end
    if params.encode.unit == "character":
        counts = {
            name: count_characters(decoded(read_pieces(text, part.start, part.end)))
            for name, part in parts.items()
        }
        vocab = choose_alphabet(
            counts,
            min_count=params.encode.min_count,
            may_replace=params.encode.unseen == "replace",
        ).vocab
        num_ids = parts["train"].num_chars
    check_training(params, vocab, num_ids)
    # After `git clone`, only the model's `.dvc` file exists, until `dvc pull` gets the model.
    if str(paths.initial) != NOTHING and paths.initial.exists():
        from charlstm.model.initialization import load_initial  # torch takes a second to import

        load_initial(paths.initial, vocab, shape_of(params.model, len(vocab)))


def check_training(params: Params, vocab: Vocab, num_ids: int) -> None:
    """Check the parameters of train and sample for an encoded text with `num_ids` training ids.

    Raises:
        CharlstmError: a prompt has unknown characters, the text is too short for a step, or the
            model is too large for this machine.
    """
    if params.sample.prompts != AUTO:
        check_prompts(vocab, params.sample.prompts, "sample.prompts")
    train = params.train
    num_steps = train.epochs * steps_per_epoch(num_ids, train, vocab.unit)
    check_warmup(train.warmup_steps, num_steps, train.epochs)
    num_parameters = shape_of(params.model, len(vocab)).num_parameters
    needed = num_parameters * BYTES_PER_PARAMETER
    memory = psutil.virtual_memory().total
    if needed > memory:
        raise ParamsError(
            f"training {num_parameters:,} parameters needs at least {needed / GIB:.0f} GiB, but "
            f"this machine has {memory / GIB:.0f} GiB: lower model.hidden_size or model.num_layers"
        )
