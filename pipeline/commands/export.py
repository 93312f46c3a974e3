"""`charlstm export`: a trained model as a file for other runtimes, or as a folder with its card."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from charlstm.errors import CharlstmError, CorpusError, VocabularyError
from charlstm.files.atomic import atomic_folder, write_bytes
from pipeline.commands.info import CARD, read_card
from pipeline.stage.project import checked_output, from_here, output_from_here
from pipeline.use import MODEL, ModelOption, model_folder, open_model, read_file, say_unseen

if TYPE_CHECKING:
    from charlstm.text.vocabulary import Ids, Vocab

TOLERANCE = 1e-4  # of logits in fp32, between torch and onnxruntime
EXTRA = ("onnx", "onnxruntime")


def export(
    kind: Annotated[
        Literal["onnx", "folder"],
        typer.Argument(metavar="FORMAT", help="`onnx`, or `folder`: a copy with its card.", show_default=False),
    ],
    model: ModelOption = MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file or folder: `model.onnx` or `model`.",
            show_default=False,
            callback=output_from_here,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT_FILE", help="A text on which the file is first compared with torch.", callback=from_here
        ),
    ] = None,
) -> int:
    """Write a trained model as an ONNX file, or copy it with its card.

    The folder has the model's files and `card.json`: corpus, recipe, losses and commit, which `charlstm info` shows of
    the folder wherever it is.

    The ONNX file takes ids and a state, and gives logits and the next state, for any number of rows and characters. The
    vocabulary is in its metadata.

    With `--check`, losses on the text and the largest difference of logits from torch's are printed. If they differ by
    more than 1e-4, nothing is written.
    """
    output = output or checked_output(from_here(Path("model.onnx" if kind == "onnx" else "model")))
    if not output.parent.is_dir():
        raise CharlstmError(f"{output}: there is no folder {output.parent}; make it first, or choose another --output")
    if kind == "folder":
        if check:
            raise CharlstmError("--check: expected the format onnx, got folder")
        _copy(model, output)
        typer.echo(output)
        return 0
    if output.is_dir():
        raise CharlstmError(f"{output}: is a folder; name a file by --output")
    try:
        _export(model, output, check)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        raise CharlstmError(
            f"{package} is not installed: `pip install --editable 'PATH/TO/THE/CHECKOUT[onnx]'` brings what ONNX needs"
        ) from None
    return 0


def _copy(where: str, target: Path) -> None:
    """Write a folder with the model and its card, whole or not at all."""
    from charlstm.model.shape import CONFIG, WEIGHTS
    from charlstm.text.vocabulary import VOCAB

    if target.exists():
        raise CharlstmError(f"{target}: exists already; choose another --output")
    with model_folder(where) as folder:
        card = read_card(where, str(open_model(str(folder)).info["model_sha256"])).model_dump(exclude={"recorded_in"})
        with atomic_folder(target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(folder / name, temporary / name)
            (temporary / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _export(where: str, output: Path, check: Path | None) -> None:
    from charlstm.model.model_folder import load_model
    from charlstm.onnx_export import compare, onnx_bytes

    with model_folder(where) as folder:
        trained = load_model(folder, "fused")
    ids = _read(check, trained.vocab) if check else None
    file = onnx_bytes(trained)
    if ids is not None:
        expected, loss, difference = compare(trained, file, ids)
        typer.echo(f"torch: {expected.nats_per_char:.4f} nats/char")
        typer.echo(f"onnxruntime: {loss.nats_per_char:.4f} nats/char, logits differ by up to {difference:.1e}")
        if not difference <= TOLERANCE:
            raise CharlstmError(
                f"expected logits within {TOLERANCE} of torch's, found a difference of {difference:.1e}; "
                f"nothing is written. It would be without --check"
            )
    write_bytes(output, file)
    typer.echo(f"{output}: {len(file):,} bytes")


def _read(path: Path, vocab: "Vocab") -> "Ids":
    """The ids of a text, in which unknown characters are U+FFFD, as in the validation part, if the model knows it."""
    from charlstm.generation.prompts import with_sign

    text = read_file(path)
    if len(text) < 2:
        raise CorpusError(f"{path}: expected at least 2 characters, one to read and one to guess, found {len(text)}")
    say_unseen(text, vocab)
    try:
        return vocab.encode(with_sign(text, vocab))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None
