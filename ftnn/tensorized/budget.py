"""A budget of parameters, spent where it lowers the error most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNITS = 20_000
"""Parts of a budget, in which sizes are counted."""


class Choice(NamedTuple):
    """A size that a layer can have.

    Attributes
    ----------
    params : int
    error : float
        Squared relative error of the outputs of the model.
    """

    params: int
    error: float


def useful(choices: Sequence[Choice]) -> list[int]:
    """Return the choices that no smaller one is as good as, in the order of their sizes.

    Examples
    --------
    >>> useful([Choice(1, 9.0), Choice(2, 9.5), Choice(3, 1.0), Choice(4, 1.0), Choice(9, 0.0)])
    [0, 2, 4]
    """
    order = sorted(range(len(choices)), key=lambda n: (choices[n].params, choices[n].error))
    found: list[int] = []
    for n in order:
        if not found or choices[n].error < choices[found[-1]].error:
            found.append(n)
    return found


def hull(choices: Sequence[Choice]) -> list[int]:
    """Return the choices that no mixture of two others beats, in the order of their sizes.

    Only these can be the best for a price of a parameter.

    Examples
    --------
    >>> hull([Choice(1, 9.0), Choice(2, 8.5), Choice(3, 1.0), Choice(4, 2.0), Choice(9, 0.0)])
    [0, 2, 4]
    """
    order = sorted(range(len(choices)), key=lambda n: (choices[n].params, choices[n].error))
    found: list[int] = []
    for n in order:
        if found and choices[n].error >= choices[found[-1]].error:
            continue
        while len(found) > 1 and _gain(choices, found[-2], n) >= _gain(
            choices, found[-2], found[-1]
        ):
            found.pop()
        found.append(n)
    return found


def _gain(choices: Sequence[Choice], small: int, large: int) -> float:
    """Error that a parameter more takes away."""
    fewer = choices[small].error - choices[large].error
    return fewer / max(choices[large].params - choices[small].params, 1)


def spend(layers: Sequence[Sequence[Choice]], params: int) -> list[int]:
    """Choose a size for every layer, with at most so many parameters in all, and least error.

    Errors of layers are taken to add. The best of all combinations (the multiple-choice knapsack
    problem) is found by dynamic programming over layers and what is left of the budget, in 20,000
    parts: sizes above the smallest are rounded up to parts.

    Parameters
    ----------
    layers : sequence of sequence of Choice
    params : int

    Returns
    -------
    list of int
        The choice of every layer.

    Raises
    ------
    ValueError
        If the smallest sizes are too large.

    Examples
    --------
    >>> spend([[Choice(1, 1.0), Choice(5, 0.0)], [Choice(1, 0.1), Choice(5, 0.0)]], 6)
    [1, 0]
    """
    kept = [useful(choices) for choices in layers]
    smallest = [choices[own[0]].params for choices, own in zip(layers, kept, strict=True)]
    if sum(smallest) > params:
        raise ValueError(f"the smallest sizes have {sum(smallest)} parameters, more than {params}")
    most = sum(choices[own[-1]].params for choices, own in zip(layers, kept, strict=True))
    left = min(params, most) - sum(smallest)
    unit = max(1, -(-left // UNITS))
    count = left // unit
    least = np.zeros(count + 1)  # error of the layers so far, with so many parts
    taken = []
    for choices, own, small in zip(layers, kept, smallest, strict=True):
        best = np.full(count + 1, np.inf)
        chosen = np.zeros(count + 1, dtype=np.int64)
        for k, n in enumerate(own):
            cost = -(-(choices[n].params - small) // unit)
            if cost > count:
                break
            error = np.full(count + 1, np.inf)
            error[cost:] = least[: count + 1 - cost] + choices[n].error
            better = error < best
            best[better], chosen[better] = error[better], k
        least = best
        taken.append(chosen)
    places = []
    rest = count
    for choices, own, small, chosen in zip(
        layers[::-1], kept[::-1], smallest[::-1], taken[::-1], strict=True
    ):
        n = own[chosen[rest]]
        places.append(n)
        rest -= -(-(choices[n].params - small) // unit)
    return places[::-1]
