"""Recomputation: intermediate results are computed again in the backward pass to save memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .dispatch import dispatched

RECOMPUTING = ContextVar("recomputing", default=False)


@dispatched(key=lambda function, cores: cores[0])
def recompute(function: Callable[[Any], Any], cores: Any) -> Any:
    """Call ``function(cores)``, on torch storing no intermediate results for the backward pass.

    They are computed again there. On other backends this is a plain call.
    """
    return function(cores)


@contextmanager
def recomputing() -> Iterator[None]:
    """Let truncations recompute their steps in the backward pass, on torch; a context manager."""
    token = RECOMPUTING.set(True)
    try:
        yield
    finally:
        RECOMPUTING.reset(token)


@dispatched(key=lambda function, arrays: arrays[0])
def step_of_truncation(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Call ``function(arrays)``, by :func:`recompute` within :func:`recomputing`."""
    return function(arrays)
