"""Stage encode on characters of one to four bytes, cut anywhere, against a reference."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.files import atomic
from charlstm.params import Params, load_params
from pipeline import encode
from pipeline.run.dvc import Paths, load_paths
from pipeline.run.stage import Stage
from tests.support import reference
from tests.support.projects import make_project

Project = tuple[Params, Paths]
MIXED = st.text(
    st.sampled_from("ab\n\x00\x7f\x80é€\ufffd\U0001f600\U0010ffff"), min_size=2, max_size=40
)
MANY = "".join(chr(code) for code in range(0x400, 0x600))  # more characters than 8-bit ids


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("encode") / "project"
    make_project(folder)
    paths = load_paths(folder / "dvc.yaml")
    absolute = {name: folder / path for name, path in paths}
    return load_params(folder / "params.yaml"), Paths(**absolute)


def encoded(project: Project, parts: dict[str, str], **options: object) -> dict[str, bytes]:
    """Return the files that the stage writes for these parts."""
    params, paths = project
    paths.split.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.txt": part.encode() for name, part in parts.items()}
    for name, content in reference.with_sums(files).items():
        (paths.split / name).write_bytes(content)
    update = {"encode": params.encode.model_copy(update=options)}
    encode.run(Stage("encode", params.model_copy(update=update), paths, {}))
    return reference.contents(paths.encoded)


@settings(max_examples=60)
@given(
    MIXED | MIXED.map(lambda text: text + MANY),
    MIXED,
    st.none() | MIXED,
    st.integers(1, 3),
    st.integers(1, 9),
)
def test_the_files_are_those_of_the_whole_text(
    project: Project, train: str, val: str, test: str | None, min_count: int, piece_bytes: int
) -> None:
    parts = {"train": train, "val": val, **({"test": test} if test else {})}
    shutil.rmtree(project[1].encoded, ignore_errors=True)  # DVC removes outputs before a stage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "PIECE_BYTES", piece_bytes)
        if max(map(train.count, train)) < min_count and "\ufffd" not in train:
            with pytest.raises(VocabularyError, match="encode.min_count: every character"):
                encoded(project, parts, min_count=min_count)
        else:
            found = encoded(project, parts, min_count=min_count)
            assert found == reference.encode(parts, min_count)


def test_unseen_characters_can_be_an_error_before_anything_is_written(project: Project) -> None:
    parts = {"train": "aabbc", "val": "abab", "test": "abab"}
    before = encoded(project, parts)
    with pytest.raises(VocabularyError, match="lacks 'é'"):
        encoded(project, {**parts, "test": "éaéc"}, unseen="error")
    assert reference.contents(project[1].encoded) == before
    # A rare character is not unseen.
    rare = encoded(project, {**parts, "test": "cabc"}, unseen="error", min_count=2)
    assert len(rare["test.npy"]) == 128 + 4
