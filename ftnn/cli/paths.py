"""Paths of the command line: an empty text is not the current folder."""

from pathlib import Path

import typer


def typed_path(text: str) -> Path:
    """Return the path that was typed, or raise an error, which names the flag, if it is empty.

    Examples
    --------
    >>> typed_path("runs/mine").name
    'mine'
    """
    if not text:
        raise typer.BadParameter("it is empty, expected a path; '.' is the current folder")
    return Path(text)
