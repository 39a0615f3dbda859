"""Environments of every cut of an overlap or an expectation value."""

from autoray import do

from ..arrays.backend import check_alike
from ..arrays.scales import all_peaks
from .operators import MPO
from .overlap import (
    Environment,
    absorb_each,
    absorb_pair,
    absorb_pair_right,
    absorb_sandwich,
    absorb_sandwich_right,
    conjugated,
)
from .states import MPS

SIDES = ("left", "right")


def environments(
    bra: MPS, ket: MPS | None = None, operator: MPO | None = None, side: str = "left"
) -> tuple[Environment, ...]:
    r"""Return the environments of every cut of :math:`\langle bra|operator|ket\rangle`.

    Parameters
    ----------
    bra : MPS
        State that is conjugated.
    ket : MPS, optional
        By default the bra. Batch sizes equal or 1.
    operator : MPO, optional
        Operator between the two; by default none.
    side : {"left", "right"}
        Side of every cut that is contracted.

    Returns
    -------
    tuple of Environment
        ``L + 1`` of them. Number k belongs to the cut left of site k: with side "left" it is the
        contraction of sites 0 ... k - 1, with "right" that of sites k ... L - 1. Its ``array`` is
        (batch, bra bond, ket bond), with an operator (batch, bra bond, operator bond, ket bond),
        and of largest modulus 1; its ``log_scale`` (batch,) is the natural logarithm of the
        divisor.

    Raises
    ------
    TypeError
        If a state is not an MPS, or the operator not an MPO.
    ValueError
        If physical dimensions, batches, backends or dtypes differ, or ``side`` is unknown.

    Notes
    -----
    At every cut, the sum of the product of both environments is the whole overlap. On torch and
    JAX gradients pass through ``array``, whose scale is a constant.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> rng = np.random.default_rng(0)
    >>> x, y = (ftnn.MPS.from_dense(rng.standard_normal((5, 16)), (2, 2, 2, 2)) for _ in range(2))
    >>> left = ftnn.environments(x, y)
    >>> right = ftnn.environments(x, y, side="right")
    >>> [env.array.shape for env in left]
    [(5, 1, 1), (5, 2, 2), (5, 4, 4), (5, 2, 2), (5, 1, 1)]
    >>> whole = (left[2].array * right[2].array).sum((1, 2))
    >>> whole = whole * np.exp(left[2].log_scale + right[2].log_scale)
    >>> bool(np.allclose(whole, x.inner(y)))
    True
    """
    ket = bra if ket is None else ket
    _check(bra, ket, operator, side)
    tops = all_peaks(ket.cores, 4)
    second = tuple(core / top for core, top in zip(ket.cores, tops, strict=True))
    # of the bra itself no square is taken, also not in gradients
    first, power = (second, 2) if bra is ket else (bra.cores, 1)
    first = conjugated(first)
    batch, L = max(bra.batch_size, ket.batch_size), len(second)
    sites = range(L) if side == "left" else range(L - 1, -1, -1)
    if operator is None:
        absorb = absorb_pair if side == "left" else absorb_pair_right
        edge = do("ones", (batch, 1, 1), like=second[0])
        envs = absorb_each(
            lambda env, k: absorb(env, first[k], second[k]), edge, sites, tops, power
        )
    else:
        weights = operator.cores
        through = absorb_sandwich if side == "left" else absorb_sandwich_right
        edge = do("ones", (batch, 1, 1, 1), like=second[0])
        envs = absorb_each(
            lambda env, k: through(env, first[k], weights[k], second[k]), edge, sites, tops, power
        )
    return tuple(envs if side == "left" else envs[::-1])


def _check(bra: MPS, ket: MPS, operator: MPO | None, side: str) -> None:
    for name, state in (("bra", bra), ("ket", ket)):
        if not isinstance(state, MPS):
            raise TypeError(f"{name} is a {type(state).__name__}, expected an MPS")
    if side not in SIDES:
        raise ValueError(f"side is {side!r}; choose one of {', '.join(SIDES)}")
    out_dims = in_dims = ket.phys_dims
    arrays = [bra.cores[0], ket.cores[0]]
    if operator is not None:
        if not isinstance(operator, MPO):
            raise TypeError(f"operator is a {type(operator).__name__}, expected an MPO")
        out_dims, in_dims = operator.out_dims, operator.in_dims
        arrays.append(operator.cores[0])
    check_alike(arrays, "bra, ket and operator")
    if ket.phys_dims != in_dims:
        raise ValueError(f"ket has phys_dims {ket.phys_dims}, but operator has in_dims {in_dims}")
    if bra.phys_dims != out_dims:
        other = "ket has phys_dims" if operator is None else "operator has out_dims"
        raise ValueError(f"bra has phys_dims {bra.phys_dims}, but {other} {out_dims}")
    if len({bra.batch_size, ket.batch_size, 1}) > 2:
        raise ValueError(
            f"bra and ket have batches of {bra.batch_size} and {ket.batch_size}; both need the "
            "same, or one of them 1"
        )
