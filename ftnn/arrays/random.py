"""Random numbers on the backend, dtype and device of other arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
from autoray import infer_backend

from .backend import Array, as_like, real_name
from .dispatch import dispatched, implementation


def random_generator(seed: int, stream: int | None = None) -> np.random.Generator:
    """Return the generator of a seed, or raise ``ValueError`` unless it is an integer >= 0.

    Parameters
    ----------
    seed : int
    stream : int, optional
        What is drawn, so that no two things get the same numbers.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected an integer >= 0")
    return np.random.default_rng(seed if stream is None else (seed, stream))


@dispatched(key=lambda draw, *arguments, like: like)
def draw_arrays(draw: Callable[..., Any], *arguments: int, like: Array) -> tuple[Array, ...]:
    """Draw arrays, ``draw(*arguments)``, on the backend, dtype and device of ``like``.

    Parameters
    ----------
    draw : callable
        A function of a module that returns a tuple of NumPy arrays; torch.compile does not
        enter it.
    *arguments : int
    like : array
    """
    return tuple(as_like(x, like) for x in draw(*arguments))


@dispatched(key=lambda shape, like, rng: like)
def random_uniform(shape: tuple[int, ...], like: Array, rng: np.random.Generator) -> Array:
    """Draw real numbers in [0, 1) in the precision and on the backend and device of ``like``.

    On NumPy they come from ``rng``, on torch and CuPy from the library's own generator for the
    device: nothing is moved there.

    Raises
    ------
    NotImplementedError
        On JAX, whose functions hold no state.
    """
    raise NotImplementedError(
        f"random draws in training are not available on {infer_backend(like)}; use torch, NumPy "
        "or CuPy, or evaluate: layer.eval()"
    )


@implementation("numpy", random_uniform)
def _(shape: tuple[int, ...], like: Array, rng: np.random.Generator) -> Array:
    return rng.random(shape, np.dtype(real_name(like)))
