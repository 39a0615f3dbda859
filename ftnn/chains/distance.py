"""Distances between states, batched, on every backend."""

from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import log
from .overlap import overlap
from .terms import Cores


def relative_squares(cores: Cores, reference: Cores) -> Array:
    r"""Compute squared relative distances :math:`\|x - t\|^2 / \|t\|^2` of two batched chains.

    Parameters
    ----------
    cores, reference : tuple of array (batch, left, phys, right)
        x and t, with the same batch and physical dimensions and any bonds; no t is zero.

    Returns
    -------
    array (batch,)
        Differentiable.

    Notes
    -----
    From :math:`\langle x, x\rangle - 2\,\Re\langle t, x\rangle + \langle t, t\rangle`, with all
    three in log scale. They cancel: distances below the square root of the machine epsilon
    (1.5e-8 in double precision, 3e-4 in single) are rounding.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x, t = np.array([[3.0, 0.0, 1.0, 0.0]]), np.array([[3.0, 0.0, 0.0, 4.0]])
    >>> states = [ftnn.MPS.from_dense(v, (2, 2)).cores for v in (x, t)]
    >>> print(relative_squares(*states).round(6))
    [0.68]
    """
    own, own_scale = overlap(cores, cores)
    cross, cross_scale = overlap(reference, cores)
    whole, whole_scale = overlap(reference, reference)
    whole = do("real", whole)
    total = whole_scale + log(whole)
    square = do("real", own) * as_dtype_of(do("exp", own_scale - total), whole)
    mixed = do("real", cross) * as_dtype_of(do("exp", cross_scale - total), whole)
    return 1.0 + square - 2.0 * mixed


def infidelities(cores: Cores, reference: Cores) -> Array:
    r"""Compute infidelities :math:`1 - |\langle t, x\rangle|^2 / (\|x\|^2 \|t\|^2)` of two chains.

    Parameters
    ----------
    cores, reference : tuple of array (batch, left, phys, right)
        x and t, with the same batch and physical dimensions and any bonds. Nothing depends on
        their norms and phases.

    Returns
    -------
    array (batch,)
        From 0 to 1, up to rounding; 1 if either is zero. Differentiable where neither is.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x, t = np.array([[3.0, 0.0, 0.0, 3.0]]), np.array([[-1.0, 0.0, 0.0, 0.0]])
    >>> states = [ftnn.MPS.from_dense(v, (2, 2)).cores for v in (x, t)]
    >>> print(infidelities(*states).round(6))
    [0.5]
    """
    own, own_scale = overlap(cores, cores)
    cross, cross_scale = overlap(reference, cores)
    whole, whole_scale = overlap(reference, reference)
    norms = do("real", own) * do("real", whole)
    zero = norms == 0.0
    safe = do("where", zero, do("ones_like", norms), norms)
    square = do("real", cross * do("conj", cross)) / safe
    scale = as_dtype_of(do("exp", 2.0 * cross_scale - own_scale - whole_scale), norms)
    return 1.0 - do("where", zero, do("zeros_like", square), square * scale)
