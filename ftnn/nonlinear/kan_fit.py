r"""fit_kan: a KAN on cores from pairs of states, by alternating linear least squares.

The cores of the output of a :class:`ftnn.nonlinear.KAN` are linear in its parameters
:math:`\theta`,

.. math:: y_k[l, q, r] = \sum_a \Phi_k[l, a, r]\, \theta_k[a, q],

with :math:`\Phi` the scaled entries and the values of the basis at them. The vector is a product
of cores, thus linear in the parameters of one site, those of the others being fixed: the best ones
solve

.. math:: A \theta_k = b, \qquad A_{aa'} = \sum_n \langle\Phi_a\rangle^T G_n \langle\Phi_{a'}\rangle

with :math:`G_n` the overlaps of the cores to the left and to the right, the same A for all output
channels q, and b the overlaps with the targets. No step can raise the error.
"""

from dataclasses import dataclass

import numpy as np

from ..arrays.backend import as_like, to_numpy
from ..chains.states import MPS
from .functions import scaled_entries
from .kan import KAN

RIDGE = 1e-10
"""Added to the diagonal of A, relative to its mean: a basis that the inputs do not tell apart."""


@dataclass(frozen=True)
class KANFit:
    """How well a layer was fitted.

    Attributes
    ----------
    errors : tuple of float
        Relative error over all samples, of the layer as it was and after every sweep.
    """

    errors: tuple[float, ...]

    @property
    def error(self) -> float:
        """Relative error of the layer as it is now."""
        return self.errors[-1]


def fit_kan(layer: KAN, inputs: MPS, targets: MPS, sweeps: int = 10, rtol: float = 1e-3) -> KANFit:
    r"""Fit the functions of a KAN to pairs of states, :math:`\mathrm{KAN}(x_n) \approx y_n`.

    Parameters
    ----------
    layer : KAN
        Changed in place; with functions of its own on every site.
    inputs : MPS
        In the gauge in which the layer will get them: outputs of a :class:`ftnn.Linear`.
    targets : MPS
        With the output dimensions of the layer.
    sweeps : int
        Most sweeps over all sites.
    rtol : float
        Stop when a sweep lowers the error by less than this, relatively.

    Returns
    -------
    KANFit

    Raises
    ------
    TypeError, ValueError
        If the arguments do not fit together, or the sites of the layer share their functions.

    Notes
    -----
    A KAN acts on entries of cores. On a chain of one site, these are the entries of the vector, up
    to the norm of the sample; on longer ones no choice of functions makes it a given function of
    the entries of the vector, and what is left as error is large: it is told, not hidden. With
    ``odd=True`` the layer is an odd function of the vector: of ReLU it can learn the half that is
    linear.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = np.random.default_rng(0).standard_normal((50, 8))
    >>> x /= np.linalg.norm(x, axis=1, keepdims=True)
    >>> layer = ftnn.nonlinear.KAN((8,), grid=8, odd=False)
    >>> states, targets = (ftnn.MPS.from_dense(y, (8,)) for y in (x, np.maximum(x, 0)))
    >>> fit_kan(layer, states, targets).error < 0.05
    True
    """
    _check(layer, inputs, targets, sweeps)
    features = [_features(layer, core, k) for k, core in enumerate(inputs.cores)]
    y = [to_numpy(core).astype(np.float64) for core in targets.cores]
    theta = [_parameters(layer, k) for k in range(len(y))]
    square = float(_overlaps(y, y).sum())
    errors = [_error(features, theta, y, square)]
    L = len(y)
    for _ in range(sweeps if square else 0):
        out = [_apply(f, t) for f, t in zip(features, theta, strict=True)]
        rights = [(np.ones((len(y[0]), 1, 1)),) * 2]
        for k in range(L - 1, 0, -1):
            own, cross = rights[0]
            rights.insert(0, (_to_left(own, out[k], out[k]), _to_left(cross, out[k], y[k])))
        left = rights[-1]
        for k in range(L):
            theta[k] = _solve(features[k], y[k], left, rights[k])
            out[k] = _apply(features[k], theta[k])
            left = (_to_right(left[0], out[k], out[k]), _to_right(left[1], out[k], y[k]))
        errors.append(_error(features, theta, y, square))
        if errors[-1] > (1.0 - rtol) * errors[-2]:
            break
    for k, (core, found) in enumerate(zip(inputs.cores, theta, strict=True)):
        p = core.shape[2]
        curve = found[p:].reshape(p, -1, found.shape[1])  # a: entries, then p by functions
        like = layer.params[f"linear.{k}"]
        layer.params[f"linear.{k}"] = as_like(np.ascontiguousarray(found[:p]), like)
        layer.params[f"curve.{k}"] = as_like(np.ascontiguousarray(curve), like)
    return KANFit(tuple(errors))


def _check(layer: KAN, inputs: MPS, targets: MPS, sweeps: int) -> None:
    """Raise an error unless the arguments of :func:`fit_kan` fit together."""
    if not isinstance(layer, KAN):
        raise TypeError(f"layer is a {type(layer).__name__}, expected a KAN")
    if layer.share:
        raise ValueError("layer shares its functions between sites; make it with share=False")
    for name, states, dims in (
        ("inputs", inputs, layer.in_dims),
        ("targets", targets, layer.out_dims),
    ):
        if not isinstance(states, MPS):
            raise TypeError(f"{name} is a {type(states).__name__}, expected an ftnn.MPS")
        if states.phys_dims != dims:
            raise ValueError(f"{name} have phys_dims {states.phys_dims}, expected {dims}")
    if inputs.batch_size != targets.batch_size:
        raise ValueError(
            f"there are {inputs.batch_size} inputs and {targets.batch_size} targets; each input "
            "needs its target"
        )
    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}, expected at least 1")


def _features(layer: KAN, core: np.ndarray, site: int) -> np.ndarray:
    """Return what the parameters of a site multiply: (batch, left, a, right)."""
    u, norm = scaled_entries(core, (layer.mean_dims or layer.in_dims)[site])
    values = to_numpy(layer.values(u, site))  # (functions, batch, left, p, right)
    count, batch, left, p, right = values.shape
    values = values.transpose(1, 2, 3, 0, 4).reshape(batch, left, p * count, right)
    found = np.concatenate([to_numpy(u), values], axis=2) * to_numpy(norm)
    return found.astype(np.float64)


def _parameters(layer: KAN, site: int) -> np.ndarray:
    """Return the parameters of a site: (a, q)."""
    linear, curve = (to_numpy(layer.params[f"{name}.{site}"]) for name in ("linear", "curve"))
    return np.concatenate([linear, curve.reshape(-1, curve.shape[2])]).astype(np.float64)


def _apply(features: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return the core of the output: (batch, left, q, right)."""
    return np.einsum("nlar,aq->nlqr", features, theta, optimize=True)


def _to_right(env: np.ndarray, bra: np.ndarray, ket: np.ndarray) -> np.ndarray:
    """Absorb a site into an environment (batch, bra bond, ket bond) from the left."""
    return np.einsum("nlm,nlqr,nmqs->nrs", env, bra, ket, optimize=True)


def _to_left(env: np.ndarray, bra: np.ndarray, ket: np.ndarray) -> np.ndarray:
    """Absorb a site into an environment (batch, bra bond, ket bond) from the right."""
    return np.einsum("nrs,nlqr,nmqs->nlm", env, bra, ket, optimize=True)


def _overlaps(bra: list[np.ndarray], ket: list[np.ndarray]) -> np.ndarray:
    """Return the overlaps of chains: (batch,)."""
    env = np.ones((len(bra[0]), 1, 1))
    for b, k in zip(bra, ket, strict=True):
        env = _to_right(env, b, k)
    return env[:, 0, 0]


def _error(
    features: list[np.ndarray], theta: list[np.ndarray], y: list[np.ndarray], square: float
) -> float:
    """Return the relative error over all samples."""
    out = [_apply(f, t) for f, t in zip(features, theta, strict=True)]
    found = float((_overlaps(out, out) - 2.0 * _overlaps(out, y)).sum()) + square
    return (max(found, 0.0) / (square or 1.0)) ** 0.5


def _solve(
    features: np.ndarray,
    y: np.ndarray,
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the parameters (a, q) of the least error, given all other sites."""
    (own_left, cross_left), (own_right, cross_right) = left, right
    a = features.shape[2]
    seen = np.einsum("nlm,nmas,nrs->nlar", own_left, features, own_right, optimize=True)
    flat = features.transpose(0, 1, 3, 2).reshape(-1, a)
    matrix = flat.T @ seen.transpose(0, 1, 3, 2).reshape(-1, a)
    goal = np.einsum("nlm,nmqs,nrs->nlqr", cross_left, y, cross_right, optimize=True)
    sides = flat.T @ goal.transpose(0, 1, 3, 2).reshape(-1, y.shape[2])
    ridge = RIDGE * float(np.trace(matrix)) / a
    return np.linalg.lstsq(matrix + ridge * np.eye(a), sides, rcond=None)[0]
