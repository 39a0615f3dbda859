"""What is given to start a tensorized layer from, checked: weights, moments, means."""

import torch
from torch import Tensor

from .factored import Factored
from .moments import Moments

SLACK = 1e-4
"""Rounding of second moments that are given, relative to the largest."""


def checked_weight(weight: Tensor, name: str) -> Tensor:
    """Raise an error unless a weight can be decomposed."""
    if weight.is_complex() or not weight.is_floating_point():
        raise TypeError(f"the weight of {name} is of {weight.dtype}, expected a real floating type")
    if not torch.isfinite(weight).all():
        raise ValueError(f"the weight of {name} has values that are not finite; load another")
    return weight


def checked_metric(
    moments: Tensor | Factored | Moments | None,
    mean: Tensor | None,
    bias: Tensor | None,
    size: int,
    groups: int = 1,
) -> tuple[Tensor | Factored | None, Tensor | None]:
    """Return the metric of the inputs of a layer, and their mean if the bias makes up for it.

    Of :class:`Moments`, both are told by themselves, as they are best estimated.
    """
    if isinstance(moments, Moments):
        if (moments.size, moments.groups) != (size, groups):
            raise ValueError(
                f"moments are of {moments.groups} x {moments.size} inputs, expected {groups} x "
                f"{size}"
            )
        if mean is not None:
            raise ValueError("mean is given, but moments know it; leave it out")
        about = bias is not None
        return moments.metric(centered=about), moments.first() if about else None
    if isinstance(moments, Factored):
        if mean is not None and bias is not None:
            raise ValueError("moments are factored, and cannot be centered; give Moments instead")
        return moments, None
    mean = checked_mean(mean, bias, size, groups)
    return centered(checked_moments(moments, size, groups), mean), mean


def checked_moments(moments: Tensor | None, size: int, groups: int = 1) -> Tensor | None:
    """Raise an error unless second moments fit the inputs of a layer."""
    if moments is None:
        return None
    if not isinstance(moments, Tensor) or moments.is_complex():
        got = getattr(moments, "dtype", type(moments).__name__)
        raise TypeError(f"moments are {got}, expected a tensor of real numbers")
    ahead = (groups,) if groups > 1 else ()
    expected = ((*ahead, size, size), (*ahead, size))
    if tuple(moments.shape) not in expected:
        raise ValueError(
            f"moments have shape {tuple(moments.shape)}, expected {expected[0]}, or their diagonal "
            f"{expected[1]}"
        )
    if not torch.isfinite(moments).all():
        raise ValueError("moments have values that are not finite; check the inputs they are from")
    full = moments.ndim > len(ahead) + 1
    squares = moments.diagonal(dim1=-2, dim2=-1) if full else moments
    if squares.min() < 0:
        raise ValueError("moments have negative squares, expected means of squares of the inputs")
    if full:
        _check_products(moments, squares)
    return moments


def _check_products(moments: Tensor, squares: Tensor) -> None:
    """Raise an error if a matrix (..., n, n) cannot be one of means of products."""
    least = SLACK * float(squares.max())
    gap = float((moments - moments.mT).abs().max())
    if gap > least:
        raise ValueError(
            f"moments are not symmetric: an entry and its mirror image differ by up to {gap:.3g}, "
            "expected means of x x^T; if that is rounding, give (moments + moments.mT) / 2"
        )
    roots = squares.sqrt()
    if (moments.abs() > roots[..., :, None] * roots[..., None, :] + least).any():
        raise ValueError(
            "moments have products of inputs that are larger than their squares allow, expected "
            "means of x x^T over the same rows"
        )


def checked_mean(
    mean: Tensor | None, bias: Tensor | None, size: int, groups: int = 1
) -> Tensor | None:
    """Return the mean of inputs, or None for a layer without bias, which could not use it."""
    if mean is None or bias is None:
        return None
    if not isinstance(mean, Tensor) or mean.is_complex():
        got = getattr(mean, "dtype", type(mean).__name__)
        raise TypeError(f"mean is {got}, expected a tensor of real numbers")
    expected = (groups, size) if groups > 1 else (size,)
    if tuple(mean.shape) != expected:
        raise ValueError(f"mean has shape {tuple(mean.shape)}, expected {expected}")
    if not torch.isfinite(mean).all():
        raise ValueError("mean has values that are not finite; check the inputs it is from")
    return mean


def centered(moments: Tensor | None, mean: Tensor | None) -> Tensor | None:
    """Return covariances instead of second moments."""
    if moments is None or mean is None:
        return moments
    mean = mean.to(moments)
    if moments.ndim == mean.ndim:
        return (moments - mean.square()).clamp(min=0)
    return moments - mean[..., :, None] * mean[..., None, :]
