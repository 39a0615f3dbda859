"""Less memory for more time: what lies inside a function is computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .dispatch import dispatched

RECOMPUTING = ContextVar("recomputing", default=False)


@dispatched(key=lambda function, cores: cores[0])
def recompute(function: Callable[[Any], Any], cores: Any) -> Any:
    """Call ``function(cores)``, on torch keeping nothing inside for the backward pass.

    What is inside is computed again there. On other backends it is a plain call.
    """
    return function(cores)


@contextmanager
def recomputing() -> Iterator[None]:
    """Within it, a truncation computes its steps again in the backward pass, on torch."""
    token = RECOMPUTING.set(True)
    try:
        yield
    finally:
        RECOMPUTING.reset(token)


@dispatched(key=lambda function, arrays: arrays[0])
def step_of_truncation(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Call ``function(arrays)``, by :func:`recompute` within :func:`recomputing`."""
    return function(arrays)
