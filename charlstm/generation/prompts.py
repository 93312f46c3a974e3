"""Whether prompts can be read by a model: checked before training, and before each text."""

from collections.abc import Sequence

from charlstm.errors import VocabularyError
from charlstm.text.vocabulary import Vocab, describe


def faults_of(vocab: Vocab, prompts: Sequence[str], name: str = "") -> list[str]:
    """A line for each prompt that is empty or has characters that the vocabulary lacks.

    With `name`, that of a parameter, each begins with it and the prompt's index.
    """
    found = []
    for index, prompt in enumerate(prompts):
        where = f"{name}[{index}]: " if name else ""
        if not prompt:
            found.append(f"{where}a prompt is empty; give at least one character, e.g. a newline")
        elif unknown := vocab.unknown(prompt):
            found.append(
                f"{where}the prompt {prompt!r} has characters that the model never saw: {describe(unknown)}; "
                f"it knows {vocab.known()}"
            )
    return found


def check_prompts(vocab: Vocab, prompts: Sequence[str], name: str = "") -> None:
    """Nothing, if all of `prompts` can be read.

    Raises:
        VocabularyError: names the first that cannot; the others are counted.
    """
    if faults := faults_of(vocab, prompts, name):
        others = f" (and {len(faults) - 1} more such prompts)" if len(faults) > 1 else ""
        raise VocabularyError(f"{faults[0]}{others}")
