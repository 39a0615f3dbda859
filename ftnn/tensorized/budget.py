"""A budget of parameters, spent where it lowers the error most."""

from collections.abc import Sequence
from typing import NamedTuple


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

    Errors of layers are taken to add. From the smallest sizes on, the step with the largest gain a
    parameter is taken that can be afforded: the best of all for the budget where it stops, up to
    one step (the relaxation of the multiple-choice knapsack problem).

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
    hulls = [hull(choices) for choices in layers]
    places = [0] * len(layers)
    spent = sum(choices[own[0]].params for choices, own in zip(layers, hulls, strict=True))
    if spent > params:
        raise ValueError(f"the smallest sizes have {spent} parameters, more than {params}")
    open_layers = set(range(len(layers)))
    while open_layers:
        steps = []
        for n in sorted(open_layers):
            if places[n] + 1 == len(hulls[n]):
                continue
            here, after = hulls[n][places[n]], hulls[n][places[n] + 1]
            cost = layers[n][after].params - layers[n][here].params
            if spent + cost <= params:
                steps.append((_gain(layers[n], here, after), -n, cost))
        if not steps:
            break
        _, minus, cost = max(steps)
        places[-minus] += 1
        spent += cost
    return [own[place] for own, place in zip(hulls, places, strict=True)]
