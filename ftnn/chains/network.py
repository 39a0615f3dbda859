"""The network of a lazy sum: the tensors that quimb draws and contracts."""

from collections.abc import Iterator

import numpy as np
from autoray import do
from quimb.tensor import Tensor
from quimb.utils import oset

from ..arrays.backend import Array, as_like
from ..arrays.functions import concat, stack
from .terms import Term

BATCH_IND = "batch"

TERM_IND = "term"
"""The hyper-index of a sum that selects the active term."""

FACTORS_TAG = "FACTORS"
"""Of the tensor (term, batch) of the factors of the terms, if one of them is not 1."""


def term_tensors(terms: tuple[Term, ...]) -> Iterator[Tensor]:
    """Yield the tensors of a sum of terms, site by site.

    The factors have a tensor of their own: multiplied into cores, large ones would overflow whose
    product with the other cores does not.
    """
    batch = max(term.batch_size for term in terms)
    L = terms[0].L
    for t, term in enumerate(terms):
        for k, legs in enumerate(term.sites):
            for n, leg in enumerate(legs):
                array, inds = leg.array, []
                if leg.roles[0] == "batch" and array.shape[0] != batch:
                    array = concat([array] * batch, 0)
                if len(terms) > 1:
                    array = _take_turns(array, leg.roles, t, len(terms))
                    inds.append(TERM_IND)
                names = {"batch": BATCH_IND, "out": f"k{k}"}
                keep: list = [slice(None)] * len(inds)
                for role in leg.roles:
                    edge = (role.startswith("left") and k == 0) or (
                        role.startswith("right") and k == L - 1
                    )
                    keep.append(0 if edge else slice(None))
                    if not edge:
                        bond = {"l": f"bond{t},{n},{k}", "r": f"bond{t},{n},{k + 1}"}
                        inds.append(
                            names.get(role)
                            or (bond[role[0]] if role[0] in "lr" else f"{role},{t},{k}")
                        )
                yield Tensor(array[tuple(keep)], inds, oset([f"I{k}", f"TERM{t}", f"LAYER{n}"]))
    if any(not isinstance(term.scale, _NUMBERS) or term.scale != 1.0 for term in terms):
        rows = [_factors(term, batch) for term in terms]
        tags = oset(["I0", FACTORS_TAG])
        if len(terms) == 1:
            yield Tensor(rows[0], (BATCH_IND,), tags)
        else:
            yield Tensor(stack(rows, 0), (TERM_IND, BATCH_IND), tags)


_NUMBERS = (int, float, complex)


def _factors(term: Term, batch: int) -> Array:
    """Return the factor of every sample; infinite or zero if the dtype cannot hold it."""
    if isinstance(term.scale, _NUMBERS):
        with np.errstate(over="ignore", under="ignore"):
            return as_like(np.full(batch, term.scale), term.like)
    return do("broadcast_to", do("reshape", term.scale, (-1,)), (batch,))


def _take_turns(array: Array, roles: tuple[str, ...], t: int, count: int) -> Array:
    # The neutral tensor of a state has entry 1 on bond (0, 0) for every batch and out; that of
    # an operator maps the all-ones vector to itself, by reading its inner index at 0 only.
    mask = np.zeros(array.shape)
    mask[tuple(slice(1) if role[0] in "lri" else slice(None) for role in roles)] = 1.0
    blank = as_like(mask, array)
    return stack([array if i == t else blank for i in range(count)], 0)
