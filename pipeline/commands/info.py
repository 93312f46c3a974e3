"""`charlstm info`: the card of a trained model."""

from typing import Annotated

import typer

from pipeline.commands.generate import MODEL
from pipeline.stage.project import from_here


def info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, or `models:/NAME@ALIAS` or `runs:/RUN` of MLflow.",
            callback=from_here,
        ),
    ] = MODEL,
    model_option: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", hidden=True, callback=from_here)
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Show the card of a model: sizes, corpus, commit, losses.

    Sizes and hash come from the folder. The rest comes from the project around it, if its records name this very model.
    """
    from pipeline.use.card import show_card

    show_card(model_option or model, is_json=is_json)
    return 0
