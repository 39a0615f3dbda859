"""Dense linear maps as operators and states: what ``from_dense`` of a layer starts from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..arrays.backend import Array, to_numpy
from ..arrays.functions import dims_product
from ..chains.bonds import MaxBond, check_bonds, cut_bonds
from ..chains.operators import MPO, weight_bonds
from ..chains.tt_svd import tt_svd

_TORCH_LINEAR = "torch.nn.modules.linear.Linear"

ROUNDING = 1e-13
"""Covariances that are smaller, relative to the second moments they are a difference of, are 0."""


@dataclass(frozen=True)
class DenseError:
    """Relative errors of a layer that was made from a dense one.

    Attributes
    ----------
    weight : float
        Of the weight in the Frobenius norm.
    bias : float
        Of the bias, where a mean input has corrected it of the corrected one; 0 without a bias.
    outputs : float
        Of the weight in the metric of the second moments; as ``weight`` without them.
    """

    weight: float
    bias: float
    outputs: float


def dense_arrays(linear: Any, bias: Array | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weight (out, in) and the bias (out,) of a dense layer, in double precision.

    Parameters
    ----------
    linear : torch.nn.Linear, Conv1D of transformers, or array (out, in)
    bias : array (out,), optional
        Of an array.

    Raises
    ------
    TypeError, ValueError
        If it is something else, complex, or not finite.

    Examples
    --------
    >>> weight, bias = dense_arrays(np.eye(2), bias=np.ones(2))
    >>> weight.dtype, bias
    (dtype('float64'), array([1., 1.]))
    """
    if any(f"{c.__module__}.{c.__qualname__}" == _TORCH_LINEAR for c in type(linear).__mro__):
        weight, own = linear.weight, linear.bias
    elif type(linear).__name__ == "Conv1D" and isinstance(getattr(linear, "nf", None), int):
        weight, own = linear.weight.T, linear.bias  # of transformers: (in, out)
    elif hasattr(linear, "shape") and hasattr(linear, "dtype"):
        weight, own = linear, bias
    else:
        raise TypeError(
            f"linear is a {type(linear).__name__}, expected a torch.nn.Linear, a Conv1D of "
            "transformers, or an array (out, in)"
        )
    if own is not bias and bias is not None:
        raise ValueError("bias is given, but linear has its own; give it with an array")
    matrix = _double(weight, "the weight")
    if matrix.ndim != 2:
        raise ValueError(f"the weight has shape {matrix.shape}, expected (out, in)")
    if own is None:
        return matrix, None
    vector = _double(own, "the bias")
    if vector.shape != matrix.shape[:1]:
        raise ValueError(f"the bias has shape {vector.shape}, expected {matrix.shape[:1]}")
    return matrix, vector


def _double(array: Any, name: str) -> np.ndarray:
    """Return a finite real array in double precision on NumPy."""
    if hasattr(array, "detach"):  # torch: NumPy has no bfloat16
        array = array.detach()
        array = array if array.is_complex() else array.double()
    found = to_numpy(array)
    if not np.issubdtype(found.dtype, np.floating) and not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"{name} is of {found.dtype}, expected real numbers")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has values that are not finite; load another")
    return found.astype(np.float64)


def check_product(dims: tuple[int, ...], size: int, name: str, features: str) -> None:
    """Raise ``ValueError`` unless dimensions multiply to a number of features."""
    if dims_product(dims) != size:
        raise ValueError(
            f"{name} {dims} multiply to {dims_product(dims)}, but the layer has {size} {features}; "
            f"choose dims whose product is {size}, such as {balanced(size, len(dims))}, or pad the "
            "weight with zeros"
        )


def balanced(number: int, count: int) -> tuple[int, ...]:
    """Return ``count`` factors of a number, the largest as small as it can be, largest first.

    Examples
    --------
    >>> balanced(784, 4), balanced(1024, 5), balanced(7, 2)
    ((7, 7, 4, 4), (4, 4, 4, 4, 4), (7, 1))
    """
    if count == 1:
        return (number,)
    divisors = [d for d in range(1, number + 1) if number % d == 0 and d**count >= number]
    splits = [tuple(sorted((d, *balanced(number // d, count - 1)))[::-1]) for d in divisors]
    return min(splits, key=lambda parts: (parts[0], -parts[-1]))


def operator_of(
    weight: np.ndarray,
    out_dims: tuple[int, ...],
    in_dims: tuple[int, ...],
    bond_dim: MaxBond | None,
    moments: Array | None = None,
) -> tuple[np.ndarray, ...]:
    r"""Approximate a matrix by the cores of an MPO of equal norms.

    Parameters
    ----------
    weight : array (prod(out_dims), prod(in_dims))
    out_dims, in_dims : tuple of int
    bond_dim : int or sequence of int, optional
        By default the weight is exact.
    moments : array (in, in) or (in,), optional
        Second moments :math:`\Sigma` of the inputs, or their diagonal: the error is then
        :math:`\mathrm{tr}\,(W - \tilde W) \Sigma (W - \tilde W)^T`, that of the outputs. Needs
        torch.

    Returns
    -------
    tuple of array (left, out, in, right)
        Bonds may be smaller than asked for, where larger ones gain nothing.
    """
    if bond_dim is not None:
        bond_dim = check_bonds(bond_dim, len(out_dims), "bond_dim")
    if moments is None or bond_dim is None:
        return equal_norms(MPO.from_dense(weight, out_dims, in_dims, bond_dim).cores)
    return equal_norms(_fitted(weight, out_dims, in_dims, bond_dim, moments))


def _fitted(
    weight: np.ndarray,
    out_dims: tuple[int, ...],
    in_dims: tuple[int, ...],
    bond_dim: MaxBond | None,
    moments: Array,
) -> tuple[np.ndarray, ...]:
    """Fit cores in the metric of moments; the fit is imported here: it needs torch."""
    home = f"{__package__.partition('.')[0]}.tensorized"
    torch, checks = import_module("torch"), import_module(f"{home}.checks")
    decompose = import_module(f"{home}.decompose").decompose
    graph = import_module(f"{home}.formats").mpo(out_dims, in_dims)
    own = torch.from_numpy(_double(moments, "moments"))
    own = checks.checked_moments(own, weight.shape[1])
    bonds = weight_bonds(out_dims, in_dims, bond_dim)
    found = decompose(torch.from_numpy(weight), graph, own, ranks=bonds[1:-1])
    edges = (1, *found.graph.ranks.values(), 1)
    shapes = zip(edges[:-1], out_dims, in_dims, edges[1:], strict=True)
    cores = zip(found.cores, shapes, strict=True)
    return tuple(core.numpy().reshape(shape) for core, shape in cores)


def state_of(
    vector: np.ndarray, dims: tuple[int, ...], max_bond: MaxBond | None
) -> tuple[np.ndarray, ...]:
    """Approximate a vector by cores (1, left, phys, right) of equal norms."""
    return equal_norms(tt_svd(vector[None], dims, max_bond))


def equal_norms(cores: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Give all cores of a chain the same norm, without changing the chain."""
    norms = [float(np.linalg.norm(core)) for core in cores]
    if min(norms) == 0.0:
        return tuple(cores)
    mean = math.exp(sum(map(math.log, norms)) / len(norms))
    return tuple(core * (mean / norm) for core, norm in zip(cores, norms, strict=True))


def common_bond(bonds: tuple[int, ...], dims: Sequence[int]) -> MaxBond:
    """Return the bond for all cuts that is cut to these by the dims; themselves without one."""
    bond = max(bonds, default=1)
    return bond if cut_bonds(dims, bond)[1:-1] == bonds else bonds


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the relative distance of arrays; 0 for two zeros."""
    size = float(np.linalg.norm(exact))
    return float(np.linalg.norm(found - exact)) / (size or 1.0)


def output_error(found: np.ndarray, exact: np.ndarray, moments: Array | None) -> float:
    """Return the relative distance of weights in the metric of second moments of the inputs."""
    if moments is None:
        return relative(found, exact)
    second = _double(moments, "moments")

    def square(weight: np.ndarray) -> float:
        measured = weight * second if second.ndim == 1 else weight @ second
        return max(float(np.sum(measured * weight)), 0.0)

    return math.sqrt(square(found - exact) / (square(exact) or 1.0))


def corrected_bias(bias: np.ndarray, difference: np.ndarray, mean: Array | None) -> np.ndarray:
    """Return a bias that makes up for the difference of weights (out, in) at a mean input (in,)."""
    if mean is None:
        return bias
    center = _double(mean, "mean")
    if center.shape != difference.shape[1:]:
        raise ValueError(f"mean has shape {center.shape}, expected {difference.shape[1:]}")
    return bias + difference @ center


def covariance(moments: Array | None, mean: Array | None) -> Array | None:
    """Return covariances instead of second moments, if there is a mean."""
    if moments is None or mean is None:
        return moments
    second, center = _double(moments, "moments"), _double(mean, "mean")
    if center.shape != second.shape[-1:]:
        raise ValueError(f"mean has shape {center.shape}, expected {second.shape[-1:]}")
    if second.ndim == 1:
        return np.maximum(second - center**2, 0.0)
    found = second - np.outer(center, center)
    sizes = np.sqrt(np.maximum(second.diagonal(), 0.0))
    found[np.abs(found) <= ROUNDING * np.outer(sizes, sizes)] = 0.0  # inputs that do not vary
    return found
