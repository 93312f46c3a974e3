"""`charlstm export`: a trained model as a file for other runtimes, or as a folder with its card."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder, write_bytes
from pipeline.arguments import MODEL, ForceOption, ModelOption, checked_output, model_folder
from pipeline.commands.info import CARD, read_card
from pipeline.run.project import from_here

TOLERANCE = 1e-4  # largest difference between torch's and onnxruntime's fp32 results


def _output(context: typer.Context, path: Path | None) -> Path:
    """Return the checked output path. The default file may be replaced without `--force`."""
    default = Path("model.onnx" if context.params["kind"] == "onnx" else "model")
    may_replace = path is None or context.params["force"]
    return checked_output(from_here(path or default), may_replace=may_replace)


def export(
    kind: Annotated[
        Literal["onnx", "folder"],
        typer.Argument(
            metavar="FORMAT",
            help="`onnx` for an ONNX file, or `folder` for a copy with its model card.",
            is_eager=True,
        ),
    ],
    model: ModelOption = MODEL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder to write. Default: `model.onnx` or `model`.",
            callback=_output,
        ),
    ] = None,
    force: ForceOption = False,
) -> int:
    """Export a trained model to an ONNX file, or copy it with its model card.

    The card records the text, recipe, losses and commit, so that `charlstm info` can show them
    wherever the copy is. The ONNX file is written only if its results are within 1e-4 of torch's
    results.
    """
    assert output is not None  # the callback has filled in the default
    with model_folder(model) as folder:
        if kind == "folder":
            _copy(model, folder, output)
        else:
            _export(folder, output)
    return 0


def _copy(where: str, folder: Path, target: Path) -> None:
    """Write a folder with the model and its card, either completely or not at all."""
    from charlstm.model.model_folder import copy_model, load_model

    card = read_card(where, load_model(folder, "fused").sha256)
    text = card.model_dump_json(exclude={"recorded_in"}, indent=2)
    with atomic_folder(target) as temporary:
        copy_model(folder, temporary)
        (temporary / CARD).write_text(f"{text}\n", "utf-8")
    typer.echo(target)


def _export(folder: Path, output: Path) -> None:
    try:
        from charlstm.onnx_export import largest_difference, onnx_bytes
    except ModuleNotFoundError as error:
        raise CharlstmError(
            f"{error.name} is not installed: `pip install --editable "
            "'PATH/TO/THE/CHECKOUT[onnx]'` installs it"
        ) from None
    from charlstm.model.model_folder import load_model

    trained = load_model(folder, "fused")
    file = onnx_bytes(trained)
    difference = largest_difference(trained, file)
    if not difference <= TOLERANCE:  # also if the difference is NaN
        raise CharlstmError(
            f"the ONNX results differ from torch's by {difference:.1e}, more than {TOLERANCE}, so "
            "no file was written"
        )
    write_bytes(output, file)
    typer.echo(f"{output}: {len(file):,} bytes, results within {difference:.1e} of torch's")
