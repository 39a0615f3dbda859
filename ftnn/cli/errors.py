"""Errors and warnings of the command line: one line on standard error; errors exit with code 2.

FTNN_DEBUG=1 shows the traceback instead.
"""

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup


class OneLineErrors(TyperGroup):
    """A command group that reports errors and warnings in one line each, ``ftnn: error: ...``."""

    def main(  # type: ignore[override]  # typer adds **extra, which nothing here uses
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
    ) -> Any:
        """Run a command; exits unless ``standalone_mode`` is false."""
        if not standalone_mode or os.environ.get("FTNN_DEBUG", "0") not in ("", "0"):
            return super().main(args, prog_name, complete_var, standalone_mode, windows_expand_args)
        plain, warnings.formatwarning = warnings.formatwarning, _warning_line
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args)
        except (typer.Abort, KeyboardInterrupt):
            print("ftnn: interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except Exception as error:
            print(f"ftnn: error: {one_line(error)}", file=sys.stderr)
            code = 2
        finally:
            warnings.formatwarning = plain
        sys.exit(code if isinstance(code, int) else 0)


def one_line(error: Exception) -> str:
    r"""Format an error as one line.

    Examples
    --------
    >>> one_line(ValueError("epochs is 0, expected\n an integer >= 1"))
    'epochs is 0, expected an integer >= 1'
    >>> one_line(KeyError("seed"))
    "internal, KeyError: 'seed' (FTNN_DEBUG=1 shows more)"
    """
    if hasattr(error, "format_message"):  # click's errors in what was typed
        return _joined(error.format_message())
    if isinstance(error, RecursionError):
        return f"internal, RecursionError: {_joined(str(error))} (FTNN_DEBUG=1 shows more)"
    if isinstance(error, (ValueError, TypeError, ImportError, OSError, RuntimeError)):
        return _joined(str(error)) or type(error).__name__
    if isinstance(error, MemoryError):
        return f"out of memory: {_joined(str(error))}; use smaller bonds or batches"
    return f"internal, {type(error).__name__}: {_joined(str(error))} (FTNN_DEBUG=1 shows more)"


def _warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"ftnn: warning: {_joined(str(message))}\n"


def _joined(text: str) -> str:
    return " ".join(text.split())
