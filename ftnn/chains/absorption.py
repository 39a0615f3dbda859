"""A site of a state absorbed into an environment, as a handful of batched matmuls."""

from autoray import do

from ..arrays.backend import Array


def extend_state(env: Array, core: Array, omega: Array) -> Array:
    """Absorb a site and its test vectors into a left environment.

    Parameters
    ----------
    env : array (batch, s, left)
    core : array (batch or 1, left, out, right)
    omega : array (s, out)

    Returns
    -------
    array (batch, s, right)
    """
    batch, s, left = env.shape
    _, _, out, right = core.shape
    new = env @ do("reshape", core, (-1, left, out * right))  # (batch, s, out*right)
    new = do("reshape", new, (batch, s, out, right))
    return do("reshape", omega[None, :, None, :] @ new, (batch, s, right))


def absorb_state(env: Array, core: Array) -> Array:
    """Contract (batch, s, left) with a core (batch or 1, left, phys, right) of a state.

    Returns
    -------
    array (batch, s * phys, right)
    """
    batch = env.shape[0]
    _, left, phys, right = core.shape
    new = env @ do("reshape", core, (-1, left, phys * right))
    return do("reshape", new, (batch, -1, right))


def absorb_state_right(env: Array, core: Array) -> Array:
    """Contract (batch, right, r) with a core (batch or 1, left, phys, right) of a state.

    Returns
    -------
    array (batch, left, phys * r)
    """
    _, left, phys, right = core.shape
    new = do("reshape", core, (-1, left * phys, right)) @ env
    return do("reshape", new, (env.shape[0], left, -1))
