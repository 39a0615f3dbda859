"""Random changes of states that preserve their phase."""

import numpy as np
from autoray import do

from ...arrays.backend import as_like
from ...chains.terms import Cores

DRESSING = 0.3
"""Standard deviation of the strength τ of the random dressing of training states."""


def dress(cores: Cores, rng: np.random.Generator) -> Cores:
    r"""Change states without leaving their phase: random symmetric operators on every site.

    The symmetry that protects the phase flips the spins of the even sites, and those of the odd
    ones: :math:`\prod X_i` over either. For each of these halves of the chain the operator is
    :math:`\prod_i e^{\tau X_i}` with a normal τ, times :math:`\prod_i Z_i` with probability one
    half. Both map symmetric operators to symmetric operators, act on every site separately, and
    have inverses: the resulting state is in the same phase, but with another magnetization, or
    alternating instead of uniform. So a network cannot distinguish phases by the magnetization,
    which would suffice on the line of training states. The norm is not preserved:
    :class:`ftnn.Expectation` does not depend on it.
    """
    shape = (2, len(cores[0]))
    tau = rng.normal(0.0, DRESSING, shape)[..., None, None]
    signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    z = np.stack([np.ones(shape), signs], axis=-1)[..., None]  # diagonals of 1 or Z
    x = np.array([[0.0, 1.0], [1.0, 0.0]])
    operators = z * (np.cosh(tau) * np.eye(2) + np.sinh(tau) * x)  # (2, batch, out, in)
    halves = [as_like(operator, cores[0]) for operator in operators]
    return tuple(
        do("einsum", "bqp,blpr->blqr", halves[k % 2], core) for k, core in enumerate(cores)
    )
