"""Prompts taken from the text."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text.encoded import load_encoded
from charlstm.text.prompts import MAX_LEN, resolve_prompts
from charlstm.text.vocabulary import UNSEEN, Vocab, load_vocab
from tests.support.projects import write_params
from tests.support.stages import run_stages

LINES = ["Все счастливые семьи похожи", "друг на друга, каждая", "несчастливая семья"]
RUSSIAN = "\n".join([*LINES, "несчастлива по-своему.", "Всё"])
NUMBERS = "二三四五六七八九十百千萬"


def auto(val: str, train: str | None = None) -> tuple[str, ...]:
    vocab, val = encoded_as(val if train is None else train, val)
    return resolve_prompts("auto", vocab.encode(val), vocab)


def encoded_as(train: str, val: str) -> tuple[Vocab, str]:
    """Return the vocabulary, and the validation part with U+FFFD for unseen characters."""
    val = "".join(one if one in train else UNSEEN for one in val)
    return Vocab.of(train + val), val


@pytest.mark.parametrize(
    ("val", "prompts"),
    [
        (RUSSIAN, ("\n", "друг на", "несчастливая", "несчастлива")),
        ("one line of some words and no end", ("line of some", "some words", "and no end")),
        (
            "一" * 5 + NUMBERS * 2,
            ("一一一一一二三四五六七八", "九十百千萬二三四五六七八", "九十百千萬"),
        ),
        ("\n" * 9, ("\n",)),
        ("ab\r\ncd\r\nef\r\ngh\r\n", ("\n", "cd", "ef", "gh")),
        ("rest\n  indented line\n}\n\tand more\nlast", ("\n", "indented", "and more", "last")),
    ],
)
def test_prompts_of_a_text(val: str, prompts: tuple[str, ...]) -> None:
    assert auto(val) == prompts


def test_no_prompt_has_a_sign_for_characters_that_training_never_saw() -> None:
    assert auto("a\nb☃b\nbab\naab\nbba", train="ab\n") == ("\n", "bab", "aab", "bba")
    assert auto("☃☃☃", train="ab") == ("a",)


@given(st.text(st.sampled_from("ab \n\r\t☃é\u0301" + UNSEEN), min_size=1), st.text(min_size=1))
def test_every_text_has_prompts_that_its_vocabulary_knows(val: str, train: str) -> None:
    vocab, val = encoded_as(train, val)
    prompts = resolve_prompts("auto", vocab.encode(val), vocab)
    assert len(prompts) >= 1 and len(set(prompts)) == len(prompts)
    for prompt in prompts:
        assert 1 <= len(prompt) <= MAX_LEN and not vocab.unknown(prompt)


def test_the_stage_takes_them(trained_project: Path) -> None:
    project = trained_project
    write_params(project, {"sample.prompts": "auto", "sample.seeds": [1]})
    run_stages(project, "sample")
    vocab = load_vocab(project / "Datasets/encoded/vocab.json")
    val = load_encoded(project / "Datasets/encoded/val.npy", vocab).ids
    expected = resolve_prompts("auto", val, vocab)
    assert len(expected) == 4
    rows = pd.read_csv(project / "artifacts/samples/samples.csv", keep_default_na=False)
    assert tuple(rows["prompt"]) == expected
