r"""fit_operator: an MPO from pairs of states, by alternating least squares over pairs of sites.

For samples :math:`x_n, y_n` and an operator W of given bond dimension,

.. math:: E(W) = \frac1N \sum_n \frac{\|W x_n - y_n\|^2}{\|y_n\|^2}

is quadratic in each core, and in the product c of two neighbouring cores, all others being fixed:

.. math:: E = 1 + c^\dagger A c - 2\,\Re\, b^\dagger c, \qquad
   A = \sum_n L_n \otimes x_n x_n^\dagger \otimes R_n,

with :math:`L_n, R_n` the contractions of :math:`\langle W x_n, W x_n\rangle` left and right of the
two sites, and b those of :math:`\langle W x_n, y_n\rangle`. Conjugate gradients solve A c = b, and
singular values split c, as in the density matrix renormalization group with two sites; a sweep
visits all pairs there and back.

Two properties make this fast. The other cores are isometries, scaled to keep the norm of random
states, so that over states drawn evenly A is the identity on average, and a few steps solve the
equations, whose limit is the truncation of Eckart and Young. And two sites, unlike one, choose the
subspace of the bond between them: singular values of W that are small against the first are found,
where gradient descent and updates of single cores take as many steps as their squares are small.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import MaxBond, bond_at, check_bonds
from ..chains.operators import MPO
from ..chains.overlap import Environment, absorb_pair, absorb_pair_right, overlap, rescale
from ..chains.states import MPS

CG_STEPS, CG_RTOL = 40, 1e-8
"""Most steps of conjugate gradients for a pair of sites, and their relative residual."""


@dataclass(frozen=True, eq=False)
class OperatorFit:
    """Operator fitted to pairs of states.

    Attributes
    ----------
    operator : MPO
        NumPy, float64 or complex128.
    errors : tuple of float
        Mean squared relative error on the samples after every sweep, before the last cut is
        truncated; below 1e-14 it is rounding.
    """

    operator: MPO
    errors: tuple[float, ...]


def fit_operator(
    inputs: MPS,
    targets: MPS,
    start: MPO,
    max_bond: MaxBond,
    sweeps: int = 20,
    rtol: float = 0.01,
) -> OperatorFit:
    r"""Fit an MPO W to pairs of states, :math:`W x_n \approx y_n`, by least squares.

    Alternating least squares over pairs of sites: memory and time per sweep grow with the number
    of samples and sites linearly, with the bond dimension D of W as D² and D³.

    Parameters
    ----------
    inputs, targets : MPS
        The samples, with any bond dimensions, and with the dimensions that W maps from and to; no
        target is zero. On the CPU, whatever the backend.
    start : MPO
        Operator to start with. Its images should overlap with the targets: for a long evolution,
        start with the square of the operator of half the time.
    max_bond : int or sequence of int
        Bond dimension D of the result, at every cut or at each of the L - 1.
    sweeps : int
        Most sweeps, there and back.
    rtol : float
        Stop when a sweep lowers the error by less than this, relatively.

    Returns
    -------
    OperatorFit

    Raises
    ------
    TypeError
        If the samples are not MPS, or the start is not an MPO.
    ValueError
        If dimensions or numbers of samples differ, a target is zero, anything is not finite, the
        chain has a single site, or another argument is out of range.

    Notes
    -----
    The updates of two sites are those of Guo, Modi and Poletti, arXiv:1803.10908, here with
    conjugate gradients, for states of any bond dimension and any scale. With fewer samples than
    the entries of two cores need, the result is the solution next to the start.

    Examples
    --------
    The operator behind 40 pairs of random states:

    >>> import ftnn
    >>> hidden = ftnn.MPO.random((2,) * 5, (2,) * 5, 3, seed=0)
    >>> rng = np.random.default_rng(1)
    >>> x = ftnn.MPS([rng.standard_normal((40, 1, 2, 1)) for _ in range(5)])
    >>> y = ftnn.compress(hidden @ x, 3)
    >>> fit = fit_operator(x, y, ftnn.MPO.random((2,) * 5, (2,) * 5, 1, seed=2), max_bond=3)
    >>> bool(np.allclose(fit.operator.to_dense(), hidden.to_dense(), atol=1e-4))
    True
    """
    _check(inputs, targets, start)
    for name, value, fine in (("sweeps", sweeps, sweeps >= 1), ("rtol", rtol, 0 <= rtol < 1)):
        if not fine:
            expected = "at least 1" if name == "sweeps" else "at least 0 and below 1"
            raise ValueError(f"{name} is {value}, expected {expected}")
    arrays = [[to_numpy(core) for core in chain.cores] for chain in (inputs, targets, start)]
    dtype = np.result_type(np.float64, *(core for chain in arrays for core in chain))
    x, y, w = (tuple(core.astype(dtype) for core in chain) for chain in arrays)
    sweep = _Sweep(x, y, list(w), check_bonds(max_bond, len(w)))
    errors: list[float] = []
    for _ in range(sweeps):
        errors.append(sweep.there_and_back())
        if len(errors) > 1 and errors[-1] > (1.0 - rtol) * errors[-2]:
            break
    return OperatorFit(MPO(sweep.weight), tuple(errors))


def _check(inputs: MPS, targets: MPS, start: MPO) -> None:
    for name, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, MPS):
            raise TypeError(f"{name} is a {type(value).__name__}, expected an ftnn.MPS")
    if not isinstance(start, MPO):
        raise TypeError(f"start is a {type(start).__name__}, expected an ftnn.MPO")
    if len(start.in_dims) < 2:
        raise ValueError("start has a single site, expected two or more")
    for name, state, dims in (
        ("inputs", inputs, start.in_dims),
        ("targets", targets, start.out_dims),
    ):
        if state.phys_dims != dims:
            raise ValueError(f"{name} have dimensions {state.phys_dims}, expected {dims}, of start")
    if inputs.batch_size != targets.batch_size:
        raise ValueError(
            f"there are {inputs.batch_size} inputs and {targets.batch_size} targets; each input "
            "needs its target"
        )
    for name, chain in (("inputs", inputs), ("targets", targets), ("start", start)):
        if not all(np.isfinite(to_numpy(core)).all() for core in chain.cores):
            raise ValueError(f"{name} are not finite")


class _Sweep:
    """The samples, the operator in mixed canonical form, and its environments.

    Cores but one or two are isometric, times the root of the dimension that they map from: left of
    these from the left, right of them from the right.
    """

    def __init__(self, x: tuple, y: tuple, weight: list[np.ndarray], max_bond: MaxBond):
        self.x, self.y, self.weight, self.max_bond = x, y, weight, max_bond
        self.roots = [np.sqrt(core.shape[2]) for core in weight]
        value, log_scale = overlap(y, y)
        if not (value.real > 0.0).all():
            raise ValueError("a target is zero, so that its relative error is not defined")
        self.log_norms = np.log(value.real) + log_scale
        edge = np.ones((len(value), 1, 1), x[0].dtype)
        ends = (Environment(edge, np.zeros(len(value))),) * 2
        L = len(weight)
        self.left: list = [ends] + [None] * (L - 1)  # left of site k
        self.right: list = [None] * (L - 1) + [ends]  # right of site k
        for k in range(L - 1, 0, -1):
            a, o, i, b = weight[k].shape
            q, r = np.linalg.qr(weight[k].reshape(a, -1).conj().T)
            weight[k] = self.roots[k] * q.conj().T.reshape(-1, o, i, b)
            carried = r.conj().T / self.roots[k]
            weight[k - 1] = np.tensordot(weight[k - 1], carried, (3, 0))
            self.absorb_right(k)

    def there_and_back(self) -> float:
        """Update all pairs of sites twice; return the error before the last truncation."""
        L = len(self.weight)
        for k in range(L - 1):
            u, s, v, _ = self.update(k)
            self.weight[k] = u * self.roots[k]
            self.weight[k + 1] = s[:, None, None, None] * v / self.roots[k]
            if k < L - 2:
                self.absorb_left(k)
        for k in range(L - 2, -1, -1):
            u, s, v, error = self.update(k)
            self.weight[k + 1] = v * self.roots[k + 1]
            self.weight[k] = u * s / self.roots[k + 1]
            if k > 0:
                self.absorb_right(k + 1)
        return error

    def absorb_left(self, k: int) -> None:
        """Absorb site k into the environments left of site k + 1."""
        image = _image(self.weight[k], self.x[k])
        self.left[k + 1] = self.absorbed(absorb_pair, self.left[k], k, image)

    def absorb_right(self, k: int) -> None:
        """Absorb site k into the environments right of site k - 1."""
        image = _image(self.weight[k], self.x[k])
        self.right[k - 1] = self.absorbed(absorb_pair_right, self.right[k], k, image)

    def absorbed(
        self, step: Callable, before: tuple[Environment, Environment], k: int, image: np.ndarray
    ) -> tuple[Environment, Environment]:
        """Absorb a site into the environments of <Wx, Wx> and of <Wx, y>."""
        bra, (own, cross) = image.conj(), before
        return (
            rescale(step(own.array, bra, image), own.log_scale),
            rescale(step(cross.array, bra, self.y[k]), cross.log_scale),
        )

    def update(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Solve for sites k and k + 1; return u (a, o, i, r), s (r,), v (r, o, i, b), the error."""
        from scipy.sparse.linalg import LinearOperator, cg

        first, second = self.weight[k], self.weight[k + 1]
        (a, o, i, _), (_, p, j, b) = first.shape, second.shape
        start = np.tensordot(first, second, (3, 0)).transpose(0, 1, 3, 2, 4, 5)  # a o p i j b
        shape = (a, o * p, i * j, b)
        x, y = (_merged(chain[k], chain[k + 1]) for chain in (self.x, self.y))
        own, cross = zip(self.left[k], self.right[k + 1], strict=True)
        left, right = self.weighted(*own), own[1].array
        target = self.weighted(*cross) @ y.reshape(len(y), y.shape[1], -1)
        target = target.reshape(len(y), -1, y.shape[3]) @ cross[1].array.swapaxes(1, 2)
        rhs = _pulled_back(target, x, shape)

        def normal(c: np.ndarray) -> np.ndarray:
            image = _image(c.reshape(shape), x)
            n, width, out, _ = image.shape
            moved = (left @ image.reshape(n, width, -1)).reshape(n, width * out, -1)
            return _pulled_back(moved @ right.swapaxes(1, 2), x, shape).reshape(-1)

        size = int(np.prod(shape))
        matrix = LinearOperator((size, size), matvec=normal, dtype=x.dtype)
        c, _ = cg(matrix, rhs.reshape(-1), start.reshape(-1), rtol=CG_RTOL, maxiter=CG_STEPS)
        error = 1.0 + (np.vdot(c, normal(c) - 2.0 * rhs.reshape(-1))).real
        both = c.reshape(a, o, p, i, j, b).transpose(0, 1, 3, 2, 4, 5).reshape(a * o * i, p * j * b)
        u, s, v = np.linalg.svd(both, full_matrices=False)
        r = min(bond_at(self.max_bond, k + 1) or len(s), len(s))
        return u[:, :r].reshape(a, o, i, r), s[:r], v[:r].reshape(r, p, j, b), float(error)

    def weighted(self, left: Environment, right: Environment) -> np.ndarray:
        """Return a left environment times the scale of both, over that of the targets."""
        scale = np.exp(left.log_scale + right.log_scale - self.log_norms)
        return left.array * (scale / len(scale))[:, None, None]


def _image(core: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Apply a core (a, out, in, b) to one of states (n, l, in, r): (n, a*l, out, b*r)."""
    (a, o, _, b), (n, left, _, right) = core.shape, x.shape
    image = np.tensordot(x, core, (2, 2)).transpose(0, 3, 1, 4, 5, 2)  # n l r a o b -> n a l o b r
    return image.reshape(n, a * left, o, b * right)


def _pulled_back(image: np.ndarray, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Contract an array of the size of images with conjugated states: (a, out, in, b)."""
    (a, o, _, b), (n, left, _, right) = shape, x.shape
    image = image.reshape(n, a, left, o, b, right)
    return np.tensordot(image, x.conj(), ((0, 2, 5), (0, 1, 3))).transpose(0, 1, 3, 2)


def _merged(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Merge two sites of states: (n, left, phys * phys, right)."""
    n, left, p, inner = first.shape
    both = first.reshape(n, left * p, inner) @ second.reshape(n, inner, -1)
    return both.reshape(n, left, -1, second.shape[3])
