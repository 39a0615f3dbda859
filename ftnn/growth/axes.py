"""What the axes of the arrays of a layer are, by name, and how new entries along them start."""

from collections.abc import Callable

import numpy as np

from ..arrays.backend import Array, as_like, to_numpy
from ..arrays.random import random_generator
from ..layers.layer import Layer
from ..nonlinear.block_map import BlockMap

NOISE = 0.5
"""Size of the random entries of new bond channels on two sites, relative to those of the old; on
more sites they are smaller, since what a channel carries is multiplied from site to site."""

_OPERATOR = ("left", "out", "in", "right")
_STATE = ("", "left", "out", "right")
_AXES: dict[tuple[str, int], tuple[str, ...]] = {
    ("weight", 4): _OPERATOR,
    ("A", 4): _OPERATOR,
    ("B", 4): _OPERATOR,
    ("weight", 3): ("left", "in", "right"),  # of a BlockMap
    ("bias", 4): _STATE,
    ("bias", 1): ("",),  # of a Readout
    ("gain", 4): ("", "left", "gain", "right"),
    ("shift", 4): _STATE,
    ("linear", 2): ("in", "out"),
    ("curve", 3): ("in", "", "out"),
    ("knots", 1): ("",),
    ("inner", 3): ("site", "in", ""),
    ("inner_bias", 3): ("site", "", ""),
    ("outer", 3): ("site", "", "out"),
    ("outer_bias", 3): ("site", "", "out"),
    ("first", 2): ("in", ""),
    ("second", 2): ("in", ""),
    ("first_bias", 1): ("",),
    ("second_bias", 1): ("",),
    ("outer", 2): ("", "out"),
    ("outer_bias", 1): ("out",),
    ("omega", 2): ("sketch", "channel"),
    ("log_product", 1): ("",),
    ("batches", 1): ("",),
}

Random = Callable[[tuple[int, ...], np.ndarray], np.ndarray]


def axes_of(layer: Layer, name: str, ndim: int) -> tuple[str, ...]:
    """Return the roles of the axes of an array.

    Parameters
    ----------
    layer : Layer
    name : str
        Of the array in ``params`` or ``buffers``: ``"weight.3"``.
    ndim : int

    Returns
    -------
    tuple of str
        "left", "right": bonds; "in", "out": physical indices; "gain": that of a factor entry by
        entry; "site"; "sketch", "channel": of a test matrix; empty for others.

    Raises
    ------
    TypeError
        For an array that no layer of this package has.
    """
    if isinstance(layer, BlockMap) and name == f"weight.{len(layer.params) - 1}":
        return ("left", "in", "out")
    roles = _AXES.get((name.partition(".")[0], ndim))
    if roles is None:
        raise TypeError(
            f"array {name!r} of a {type(layer).__name__} has {ndim} axes that ftnn.growth does not "
            "know; name the layers to change in where"
        )
    return roles


def draws(seed: int) -> Random:
    """Return a function that draws normal numbers of a shape, complex where an array is."""
    rng = random_generator(seed, 10)

    def draw(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
        x = rng.standard_normal(shape)
        if np.iscomplexobj(like):
            x = (x + 1j * rng.standard_normal(shape)) / 2**0.5
        return x

    return draw


def padded(
    old: Array, new: Array, roles: tuple[str, ...], draw: Random, noise: float = NOISE
) -> Array:
    r"""Enlarge an array so that its layer stays the same function.

    Parameters
    ----------
    old, new : array
        The old one, and one of the new shape by the constructor of the layer.
    roles : tuple of str
        Of the axes, as :func:`axes_of` returns them.
    draw : callable
        As :func:`draws` returns it.
    noise : float

    Returns
    -------
    array
        Like ``old``. Old entries come first along every axis. New ones are

        - along an outgoing index zeros, and along an incoming one random numbers of the size of the
          old ones: what they multiply is zero, and its gradient is not;
        - along bonds upper triangular: with N small random numbers and a the mean of the diagonal
          blocks of the old core A, by which channels are handed on as the old ones are,

          .. math:: \begin{pmatrix} A & N \\ 0 & a \mathbb{1} + N \end{pmatrix}.

          Paths that leave the old channels do not return, until the zeros have been trained, which
          have gradients at once;
        - along the index of a gain the mean of the old ones;
        - of a test matrix as the constructor makes them.
    """
    source, shape = to_numpy(old), tuple(new.shape)
    kept = tuple(slice(0, size) for size in source.shape)
    added = dict.fromkeys(roles, False)
    for role, before, after in zip(roles, source.shape, shape, strict=True):
        added[role] |= after > before
    size = float(np.sqrt(np.mean(np.abs(source) ** 2))) or 1.0
    if added.get("sketch") or added.get("channel"):
        result = to_numpy(new).astype(source.dtype)
    elif added.get("gain"):
        axis = roles.index("gain")
        mean = source.mean(axis=axis, keepdims=True)
        result = np.concatenate(
            [source, np.repeat(mean, shape[axis] - source.shape[axis], axis=axis)], axis=axis
        )
    elif added.get("left") or added.get("right"):
        result = _new_channels(source, shape, roles, size * noise * draw(shape, source))
    else:
        result = size * draw(shape, source)
    result[kept] = source
    for axis in (axis for axis, role in enumerate(roles) if role == "out"):
        result[_beyond(axis, source.shape[axis], len(shape))] = 0.0
    return as_like(result.astype(source.dtype), old)


def _new_channels(
    source: np.ndarray, shape: tuple[int, ...], roles: tuple[str, ...], random: np.ndarray
) -> np.ndarray:
    """Return the new bond channels of :func:`padded`; the old ones are left to be filled in."""
    left = roles.index("left")
    right = roles.index("right") if "right" in roles else len(roles) - 1
    before = np.moveaxis(source, (left, right), (0, 1))  # (left, right, ...)
    ratio = (before.shape[1] / shape[right]) ** 0.5
    result = np.moveaxis(random * ratio, (left, right), (0, 1)).astype(source.dtype)
    l, r = before.shape[:2]
    result[l:, :r] = 0.0
    both, inner = min(shape[left] - l, shape[right] - r), min(l, r)
    mean = before[np.arange(inner), np.arange(inner)].mean(axis=0)
    own = tuple(slice(0, size) for size in mean.shape)  # physical indices may grow as well
    for n in range(both):
        result[(l + n, r + n, *own)] += mean
    return np.ascontiguousarray(np.moveaxis(result, (0, 1), (left, right)))


def _beyond(axis: int, start: int, ndim: int) -> tuple[slice, ...]:
    """Return the slices of all entries from ``start`` on along an axis."""
    return tuple(slice(start if n == axis else 0, None) for n in range(ndim))
