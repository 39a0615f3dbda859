"""An MPO-MPS product, site by site, as a handful of batched matmuls, and its gradient.

The intermediate result between the two products of a step would be a third to a half of what a
layer stores for its gradient. It costs a few per cent of the operations, so the gradient recomputes
it.
"""

from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import adjoint, permute, sum_over
from ..arrays.gradients import custom_vjp


def extend_product(env: Array, weight: Array, core: Array, omega: Array) -> Array:
    """Absorb a site and its test vectors into a left environment.

    Parameters
    ----------
    env : array (batch, s, xl * wl)
    weight : array (wl, out, in, wr)
    core : array (batch or 1, xl, in, xr)
    omega : array (s, out)

    Returns
    -------
    array (batch, s, xr * wr)
    """
    # The test matrix is contracted with the weight once for the whole batch.
    wl, out, inn, wr = weight.shape
    flat = do("reshape", permute(weight, 1, 0, 2, 3), (out, wl * inn * wr))
    sketched = do("reshape", omega @ flat, (1, omega.shape[0], wl * inn, wr))
    return extend(env, core, sketched)


def open_product(env: Array, weight: Array, core: Array) -> Array:
    """Absorb a site into a left environment, its physical index open.

    Parameters
    ----------
    env : array (batch, s, xl * wl)
    weight : array (wl, out, in, wr)
    core : array (batch or 1, xl, in, xr)

    Returns
    -------
    array (batch, s, out, xr * wr)
    """
    wl, out, inn, wr = weight.shape
    xr = core.shape[3]
    batch, s, _ = env.shape
    new = do("reshape", _through_state(env, core), (batch, s, wl * inn, xr))
    flat = do("reshape", permute(weight, 0, 2, 1, 3), (1, 1, wl * inn, out * wr))
    new = do("reshape", permute(new, 0, 1, 3, 2) @ flat, (batch, s, xr, out, wr))
    return do("reshape", permute(new, 0, 1, 3, 2, 4), (batch, s, out, xr * wr))


# ---- the two that gradients pass through ---------------------------------------------------------


def _extend(env: Array, core: Array, sketched: Array) -> Array:
    """Absorb a site of an MPO-MPS product into a sketched left environment.

    Parameters
    ----------
    env : array (batch, s, xl * wl)
    core : array (batch or 1, xl, in, xr)
    sketched : array (1, s, wl * in, wr)
        Weight with its test vectors.

    Returns
    -------
    array (batch, s, xr * wr)
    """
    batch, s, _ = env.shape
    between = do("reshape", _through_state(env, core), (batch, s, -1, core.shape[3]))
    new = permute(between, 0, 1, 3, 2) @ sketched  # (batch, s, xr, wr)
    return do("reshape", new, (batch, s, -1))


def _extend_vjp(
    grad: Array, needed: tuple[bool, ...], env: Array, core: Array, sketched: Array
) -> tuple[Array, Array | None, Array]:
    r"""Return the gradient of :func:`extend` with respect to all its inputs.

    With T the environment through the state's core, (s, wl*in, xr) for a sample, and
    :math:`Y_s = T_s^T S_s`, upstream :math:`\bar Y_s` gives

    .. math:: \bar S_s = \sum_{batch} T_s^* \bar Y_s, \qquad \bar T_s = S_s^* \bar Y_s^T,

    and T is linear in both of its factors.

    Parameters
    ----------
    grad : array (batch, s, xr * wr)
        Upstream gradient, in torch's convention for complex numbers.
    needed : tuple of bool
        Of env, core and sketched; only that of the core is ever left out.
    env, core, sketched : array
    """
    _, xl, inn, xr = core.shape
    batch, s, _ = env.shape
    wl = sketched.shape[2] // inn
    grad = do("reshape", grad, (batch, s, xr, -1))
    moved = _weight_first(env, xl)  # (batch, s*wl, xl)
    flat = do("reshape", core, (-1, xl, inn * xr))
    between = do("reshape", moved @ flat, (batch, s, -1, xr))
    to_sketched = sum_over(do("conj", between) @ grad, (0,))[None]
    back = do("conj", sketched) @ permute(grad, 0, 1, 3, 2)  # (batch, s, wl*in, xr)
    back = do("reshape", back, (batch, s * wl, inn * xr))
    to_env = do("reshape", back @ adjoint(flat), (batch, s, wl, xl))
    to_env = do("reshape", permute(to_env, 0, 1, 3, 2), env.shape)
    to_state = _summed(adjoint(moved) @ back, core) if needed[1] else None
    return to_env, to_state, to_sketched


def _absorb(weight: Array, core: Array, env: Array) -> Array:
    """Absorb a site of an MPO-MPS product into a right environment.

    Parameters
    ----------
    weight : array (wl, out, in, wr)
    core : array (batch or 1, xl, in, xr)
    env : array (batch, xr * wr, r)

    Returns
    -------
    array (batch, xl * wl, out, r)
    """
    wl, out, inn, wr = weight.shape
    between = _between_right(weight, core, env)  # (batch, xl, in*wr, r)
    # with both operands of as many dimensions torch runs a batched product; else it would copy
    new = do("reshape", weight, (1, 1, wl * out, inn * wr)) @ between  # (batch, xl, wl*out, r)
    return do("reshape", new, (len(env), -1, out, env.shape[2]))


def _absorb_vjp(
    grad: Array, needed: tuple[bool, ...], weight: Array, core: Array, env: Array
) -> tuple[Array, Array | None, Array]:
    r"""Return the gradient of :func:`absorb` with respect to all its inputs.

    With N the core times the environment, :math:`M = W N` for every sample and every xl:

    .. math:: \bar W = \sum_{batch, xl} \bar M N^\dagger, \qquad \bar N = W^\dagger \bar M.

    Parameters
    ----------
    grad : array (batch, xl * wl, out, r)
        Upstream gradient, in torch's convention for complex numbers.
    needed : tuple of bool
        Of weight, core and env; only that of the core is ever left out.
    weight, core, env : array
    """
    wl, out, inn, wr = weight.shape
    _, xl, _, xr = core.shape
    batch, _, r = env.shape
    flat = do("reshape", weight, (1, 1, wl * out, inn * wr))
    grad = do("reshape", grad, (batch, xl, wl * out, r))
    to_weight = _shared_gradient(grad, _between_right(weight, core, env))
    back = adjoint(flat) @ grad  # (batch, xl, in*wr, r)
    back = do("reshape", back, (batch, xl * inn, wr * r))
    env = do("reshape", env, (batch, xr, wr * r))
    to_env = adjoint(do("reshape", core, (-1, xl * inn, xr))) @ back  # (batch, xr, wr*r)
    to_state = _summed(back @ adjoint(env), core) if needed[1] else None
    to_weight = do("reshape", to_weight, weight.shape)
    return to_weight, to_state, do("reshape", to_env, (batch, xr * wr, r))


def _between_right(weight: Array, core: Array, env: Array) -> Array:
    _, _, inn, wr = weight.shape
    _, xl, _, xr = core.shape
    batch, _, r = env.shape
    env = do("reshape", env, (batch, xr, wr * r))
    new = do("reshape", core, (-1, xl * inn, xr)) @ env  # (batch, xl*in, wr*r)
    return do("reshape", new, (batch, xl, inn * wr, r))


def _shared_gradient(grad: Array, stack: Array) -> Array:
    """Sum of ``grad @ stack^H`` over all but the last two axes: (m, k).

    One product over all of the stack, where copying its operands into place moves less memory
    than a matrix for every element.
    """
    (m, n), k = grad.shape[-2:], stack.shape[-2]
    if m * k <= (m + k) * n:
        return sum_over(grad @ adjoint(stack), (0, 1))
    grad, stack = (do("reshape", permute(x, 2, 0, 1, 3), (x.shape[2], -1)) for x in (grad, stack))
    return grad @ adjoint(stack)


def _summed(grad: Array, core: Array) -> Array:
    """Return the gradient (batch, ...) of a core, summed over the batch if one core serves all."""
    if core.shape[0] != grad.shape[0]:
        grad = sum_over(grad, (0,))
    return do("reshape", grad, core.shape)


def _through_state(env: Array, core: Array) -> Array:
    """Multiply an environment (batch, s, xl*wl) by a state's core: (batch, s*wl, in*xr)."""
    _, xl, inn, xr = core.shape
    return _weight_first(env, xl) @ do("reshape", core, (-1, xl, inn * xr))


def _weight_first(env: Array, xl: int) -> Array:
    """Reorder an environment (batch, s, xl*wl) to (batch, s*wl, xl)."""
    batch, s, _ = env.shape
    env = permute(do("reshape", env, (batch, s, xl, -1)), 0, 1, 3, 2)
    return do("reshape", env, (batch, -1, xl))


extend = custom_vjp(_extend, _extend_vjp)
absorb = custom_vjp(_absorb, _absorb_vjp)
