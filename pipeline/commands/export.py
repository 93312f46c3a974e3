"""`charlstm export`: a trained model as a file for other runtimes, or as a folder with its card."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder, write_bytes
from pipeline.command_io import MODEL, ModelOption, model_folder, open_model
from pipeline.command_output import ForceOption, checked_output, output_from_here
from pipeline.commands.info import CARD, read_card
from pipeline.run.project import from_here

TOLERANCE = 1e-4  # of logits and states in fp32, between torch and onnxruntime


def export(
    kind: Annotated[
        Literal["onnx", "folder"],
        typer.Argument(
            metavar="FORMAT", help="`onnx`, or `folder`: a copy with its card.", show_default=False
        ),
    ],
    model: ModelOption = MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="`model.onnx` or `model`.",
            show_default=False,
            callback=output_from_here,
        ),
    ] = None,
    is_forced: ForceOption = False,
) -> int:
    """Write a trained model as an ONNX file, or copy it with its card.

    The card has text, recipe, losses and commit, which `charlstm info` shows of the folder wherever it is. The ONNX
    file is written if its results are within 1e-4 of torch's.
    """
    output = output or checked_output(from_here(Path("model.onnx" if kind == "onnx" else "model")))
    if not output.parent.is_dir():
        raise CharlstmError(
            f"{output}: there is no folder {output.parent}; make it first, or choose another --output"
        )
    if kind == "folder":
        _copy(model, output)
        typer.echo(output)
    elif output.is_dir():
        raise CharlstmError(f"{output}: is a folder; name a file by --output")
    else:
        _export(model, output)
    return 0


def _copy(where: str, target: Path) -> None:
    """Write a folder with the model and its card, whole or not at all."""
    from charlstm.model.shape import CONFIG, WEIGHTS
    from charlstm.text.vocabulary_file import VOCAB

    if target.exists():
        raise CharlstmError(f"{target}: exists already; choose another --output")
    with model_folder(where) as folder:
        card = read_card(where, str(open_model(str(folder)).info["model_sha256"])).model_dump(
            exclude={"recorded_in"}
        )
        with atomic_folder(target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(folder / name, temporary / name)
            (temporary / CARD).write_text(
                json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8"
            )


def _export(where: str, output: Path) -> None:
    with model_folder(where) as folder:
        try:
            from charlstm.onnx_export import largest_difference, onnx_bytes
        except ModuleNotFoundError as error:
            install = "`pip install --editable 'PATH/TO/THE/CHECKOUT[onnx]'` brings it"
            raise CharlstmError(f"{error.name} is not installed: {install}") from None
        from charlstm.model.model_folder import load_model

        trained = load_model(folder, "fused")
    file = onnx_bytes(trained)
    if not (difference := largest_difference(trained, file)) <= TOLERANCE:
        raise CharlstmError(
            f"expected results within {TOLERANCE} of torch's, found a difference of {difference:.1e}"
        )
    write_bytes(output, file)
    typer.echo(f"{output}: {len(file):,} bytes, results within {difference:.1e} of torch's")
