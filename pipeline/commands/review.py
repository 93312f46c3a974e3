"""`charlstm review`: several models in one page, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.stage.project import from_here


def review(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Runs (id, the first 8 digits of it or more, name, or their model's hash); commits, branches or DVC "
            "experiments; projects, folders of samples, or `review.json` files. One to ten.",
            show_default=False,
            callback=from_here,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, callback=from_here, help="The page.")
    ] = Path("review.html"),
) -> int:
    """Put models side by side in one page.

    It has their losses, curves, figures and texts, with the parameters that differ on top. It opens in any browser,
    also offline.
    """
    from pipeline.review.comparing import write_review  # pages and pictures take seconds to import

    write_review(models, output)
    typer.echo(output)
    return 0
