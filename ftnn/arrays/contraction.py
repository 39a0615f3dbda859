"""Contraction of a few arrays by a plan of cotengra, also under torch.compile."""

import cotengra as ctg

from .backend import Array
from .dispatch import dispatched

Roles = tuple[str, ...]
"""Names of the axes of an array."""


@dispatched(key=lambda arrays, inputs, output: arrays[0])
def contract(arrays: list[Array], inputs: list[Roles], output: Roles) -> Array:
    """Sum of products over all names that are not in ``output``, in the cheapest order.

    Parameters
    ----------
    arrays : list of array
    inputs : list of tuple of str
        Names of the axes of every array; a name may occur more than twice.
    output : tuple of str
        Names of the axes of the result.
    """
    return contract_by_plan(arrays, inputs, output)


def contract_by_plan(arrays: list[Array], inputs: list[Roles], output: Roles) -> Array:
    """Contract as :func:`contract` by cotengra's own expression, cached by shape."""
    # "auto" is exact for the few tensors of one site
    return ctg.array_contract(arrays, inputs, output, optimize="auto", cache_expression=True)


def pairs(
    inputs: tuple[Roles, ...], output: Roles, shapes: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, int, str], ...]:
    """Return the pairs of positions to contract, in order, and the einsum equation of each.

    The result of each step goes to the end of the list.

    Examples
    --------
    >>> pairs((("b", "x"), ("x", "y"), ("b", "y")), ("b",), ((9, 2), (2, 2), (9, 2)))
    ((1, 2, 'bc,ac->ba'), (0, 1, 'ab,ba->a'))
    """
    names = dict.fromkeys(name for roles in inputs for name in roles)
    letter = {name: chr(ord("a") + n) for n, name in enumerate(names)}
    terms, steps = list(inputs), []
    for step in ctg.array_contract_path(inputs, output, shapes=shapes, optimize="auto"):
        first, second = sorted(step)
        rest = [roles for n, roles in enumerate(terms) if n not in step]
        remaining = {*output, *(name for roles in rest for name in roles)}
        names = dict.fromkeys(terms[first] + terms[second])
        new = tuple(name for name in names if name in remaining) if rest else output
        words = ("".join(letter[n] for n in roles) for roles in (terms[first], terms[second], new))
        steps.append((first, second, "{},{}->{}".format(*words)))
        terms = [*rest, new]
    return tuple(steps)
