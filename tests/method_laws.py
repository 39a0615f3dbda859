"""The laws that truncation methods obey, each a function of a method and a drawn problem.

tests/test_method_laws.py checks them on a few problems, tests/fuzz on very many, of any scale.
"""

from dataclasses import dataclass

import numpy as np
import torch
from catalogue import reaches
from hypothesis import strategies as st
from laws import (
    EPS,
    EXACT,
    GAUGES,
    KINDS,
    OTHERS,
    PLACES,
    Chain,
    assert_same,
    chains,
    dense,
    dense_operator,
    insert_gauges,
    mpo,
    mps,
    pad_bonds,
    random_operator,
    unit_vectors,
)

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.chains.bonds import output_bonds
from ftnn.chains.terms import Apply, State, Term
from ftnn.truncation import METHODS

NETWORKS = {
    "state": (
        lambda x, y, w, v: x,
        lambda x, y, w, v: [(x, 1, 0)],
    ),
    "product": (
        lambda x, y, w, v: w @ x,
        lambda x, y, w, v: [(x @ w.T, 1, 0)],
    ),
    "sum": (
        lambda x, y, w, v: x - 2.0 * y,
        lambda x, y, w, v: [(x, 1, 0), (-2.0 * y, 0, 1)],
    ),
    "nothing added": (
        lambda x, y, w, v: x + 0.0 * y,
        lambda x, y, w, v: [(x, 1, 0)],
    ),
    "entrywise": (
        lambda x, y, w, v: x * y,
        lambda x, y, w, v: [(x * y, 1, 1)],
    ),
    "product and sum": (
        lambda x, y, w, v: v @ (w @ x) + (x * y) / 2.0,
        lambda x, y, w, v: [(x @ w.T @ v.T, 1, 0), (x * y / 2.0, 1, 1)],
    ),
    "product of entrywise": (
        lambda x, y, w, v: w @ (x * y),
        lambda x, y, w, v: [((x * y) @ w.T, 1, 1)],
    ),
    "entrywise of products": (
        lambda x, y, w, v: (w @ x) * (w @ y),
        lambda x, y, w, v: [((x @ w.T) * (y @ w.T), 1, 1)],
    ),
}
"""Lazy networks of two states and two operators, and the terms of their dense values with the
degree in either state."""


@dataclass(frozen=True)
class Problem:
    """A lazy network to compress.

    Attributes
    ----------
    chain : Chain
        Of the state x; y has the same shapes.
    network : str
        Key of :data:`NETWORKS`.
    seed : int
        Of y and of the operators.
    scales, other_scales : tuple of int
        Every core of x, and of y, is multiplied by ten to this; empty for no scales.
    """

    chain: Chain
    network: str
    seed: int
    scales: tuple[int, ...] = ()
    other_scales: tuple[int, ...] = ()

    @property
    def other(self) -> Chain:
        """Chain of the state y."""
        return Chain(self.chain.batch, self.chain.dims, self.chain.bonds, "generic", self.seed + 7)

    @property
    def out_dims(self) -> tuple[int, ...]:
        """Physical dimensions that the first operator returns."""
        return tuple(int(d) for d in np.random.default_rng(self.seed).integers(1, 5, self.chain.L))

    def has_gradients(self, dtype: str) -> bool:
        """Whether the gradients of cores can be represented.

        The cores of T are as large as its L-th root: if a zero term would add c for every unit of
        one of its entries, their gradient with respect to it is of the size of c |T|^(1/L - 1).
        """
        if self.chain.kind != "zero" or not self.other_scales:
            return True
        L, own = self.chain.L, self.scales or (0,) * self.chain.L
        power = sum(own) - min(own) - (1 - 1 / L) * sum(self.other_scales)
        return power < (30 if dtype in ("float32", "complex64") else 280)

    def states(self, dtype: str) -> tuple[list, list]:
        """Arrays of x and y, scaled."""
        return tuple(
            [
                (core * 10.0**e).astype(dtype)
                for core, e in zip(chain.cores(_double(dtype)), scales or [0] * 99, strict=False)
            ]
            for chain, scales in ((self.chain, self.scales), (self.other, self.other_scales))
        )

    def operators(self, dtype: str) -> tuple[list, list]:
        """Arrays of w, from the dimensions of x, and of v, back to them."""
        out, dims = self.out_dims, self.chain.dims
        w = random_operator(out, dims, 3, self.seed, dtype)
        return w, random_operator(dims, out, 2, self.seed + 2, dtype)

    def lazy(self, dtype="float64", backend="numpy", change=lambda cores: cores, rows=slice(None)):
        """The network; ``change`` is applied to the cores of the states."""
        x, y = (
            mps([core[rows] for core in change(cores)], backend) for cores in self.states(dtype)
        )
        w, v = (mpo(cores, backend) for cores in self.operators(dtype))
        return NETWORKS[self.network][0](x, y, w, v)

    def expected(self, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, float]:
        """Dense vectors, their log scale, and the log norm of the largest term in it."""
        dtype = _double(dtype)
        x, y = (dense(mps(chain.cores(dtype))) for chain in (self.chain, self.other))
        w, v = (dense_operator(cores) for cores in self.operators(dtype))
        x_log, y_log = (np.log(10.0) * sum(s) for s in (self.scales, self.other_scales))
        terms = [(t, a * x_log + b * y_log) for t, a, b in NETWORKS[self.network][1](x, y, w, v)]
        log = max(log for _, log in terms)
        vectors = sum(t * np.exp(shift - log) for t, shift in terms)
        size = max(np.linalg.norm(t) * np.exp(shift - log) for t, shift in terms)
        return vectors, np.full(len(x), log), size

    def representable(self, dtype: str = "float32", gradients: bool = False) -> bool:
        """Whether the cores of the result are, with its scale spread evenly over them.

        Parameters
        ----------
        dtype : str
        gradients : bool
            Whether their derivatives by every core of the states are to be, too.
        """
        powers = [
            (a * sum(self.scales) + b * sum(self.other_scales)) / self.chain.L
            for _, a, b in NETWORKS[self.network][1](*[np.ones((1, 1))] * 4)
        ]
        limit = 30 if dtype in ("float32", "complex64") else 250
        top = max(powers)
        if gradients and max(top - e for e in (*self.scales, *self.other_scales, top)) > limit:
            return False
        return abs(top) <= limit


def _double(dtype: str) -> str:
    return "complex128" if "complex" in dtype else "float64"


@st.composite
def problems(draw, kinds=KINDS, max_sites=6, networks=tuple(NETWORKS), decades=0, **sizes):
    """Draw a problem, with scales of up to so many decades a core."""
    chain = draw(chains(max_sites=max_sites, kinds=kinds, **({"max_bond": 4} | sizes)))
    powers = reaches(chain.L).map(lambda shares: tuple(round(decades * x) for x in shares))
    scales = (draw(powers), draw(powers)) if decades else ((), ())
    return Problem(chain, draw(st.sampled_from(networks)), draw(st.integers(0, 99)), *scales)


def condition_of(method: str, dtype: str, condition: float) -> float:
    """Tolerance of a method: one that works from squares loses half of the digits."""
    if METHODS[method].digits == 1.0 or dtype in ("float32", "complex64"):
        return condition  # single precision is worked on in double precision inside
    return condition * EPS[dtype] ** (METHODS[method].digits - 1.0)


def result(found: ftnn.MPS) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of a compressed chain, whose every entry must be finite."""
    assert all(np.isfinite(to_numpy(core)).all() for core in found.cores)
    return unit_vectors(found)


# ---- laws ----------------------------------------------------------------------------------------


def batched(method, problem, max_bond, dtype="float64", backend="numpy"):
    """Law 1: the result for a batch is that for each sample."""
    together = result(ftnn.compress(problem.lazy(dtype, backend), max_bond, method))
    for n in range(problem.chain.batch):
        rows = slice(n, n + 1)
        alone = ftnn.compress(problem.lazy(dtype, backend, rows=rows), max_bond, method)
        condition = condition_of(method, dtype, PLACES)
        assert_same(tuple(part[rows] for part in together), result(alone), condition, dtype)


def gauge(method, problem, max_bond, dtype="float64", backend="numpy"):
    """Law 2: the output does not depend on the gauge of the input."""
    plain = result(ftnn.compress(problem.lazy(dtype, backend), max_bond, method))
    other = problem.lazy(dtype, backend, lambda cores: insert_gauges(cores, problem.seed))
    assert_same(result(ftnn.compress(other, max_bond, method)), plain, GAUGES, dtype)


def gauge_of_cores(method, problem, max_bond, backend="numpy"):
    """Law 2: nor do the output cores, on that of the state and that of the weight."""
    cores, _ = problem.states("float64")
    weights, _ = problem.operators("float64")
    flat = [w.reshape(1, w.shape[0], -1, w.shape[3]) for w in weights]
    others = (
        insert_gauges(cores, problem.seed),
        [
            g.reshape(w.shape)
            for g, w in zip(insert_gauges(flat, problem.seed), weights, strict=True)
        ],
    )
    plain = ftnn.compress(mpo(weights, backend) @ mps(cores, backend), max_bond, method)
    for w in (weights, others[1]):
        gauged = ftnn.compress(mpo(w, backend) @ mps(others[0], backend), max_bond, method)
        for a, b in zip(plain.cores, gauged.cores, strict=True):
            a, b = to_numpy(a), to_numpy(b)
            assert a.shape == b.shape
            top = np.abs(b).max() or 1.0  # its square may be too large
            a, b = a / top, b / top
            assert np.linalg.norm(a - b) <= PLACES * EPS["float64"] * np.linalg.norm(b) + 1e-300


def padding(method, problem, max_bond, dtype="float64", backend="numpy"):
    """Law 3: zero-padded bonds change nothing."""
    plain = result(ftnn.compress(problem.lazy(dtype, backend), max_bond, method))
    padded = ftnn.compress(problem.lazy(dtype, backend, pad_bonds), max_bond, method)
    assert_same(result(padded), plain, condition_of(method, dtype, PLACES), dtype)


def exact(method, problem, dtype="float64", backend="numpy"):
    """Law 4: at the joint bond, and at the exact rank if claimed, the result is the dense one."""
    lazy = problem.lazy(dtype, backend)
    bonds = [None]
    if "exact" in METHODS[method].claims:
        bonds.append(max(output_bonds(lazy.terms, None)))
    vectors, log, size = problem.expected(dtype)
    for max_bond in bonds:
        found = result(ftnn.compress(lazy, max_bond, method))
        condition = condition_of(method, dtype, EXACT)
        assert_same(found, (vectors, log), condition, dtype, size=size)


def optimal(method, problem, max_bond, backend="numpy"):
    """Law 5: the error is at most a stated factor of the optimum.

    The root of the sum of the best squared errors of all cuts bounds direct compression from
    above, and sqrt(L - 1) times the error of the best MPS.
    """
    vectors, log, size = problem.expected()
    found, found_log = result(ftnn.compress(problem.lazy(backend=backend), max_bond, method))
    with np.errstate(over="ignore"):
        errors = np.linalg.norm(found * np.exp(found_log - log)[:, None] - vectors, axis=1)
    dims = problem.lazy().phys_dims
    for error, vector in zip(errors, vectors, strict=True):
        tails = []
        for cut in range(1, len(dims)):
            s = np.linalg.svd(vector.reshape(int(np.prod(dims[:cut])), -1), compute_uv=False)
            tails.append(np.sum(s[max_bond:] ** 2))
        rounding = condition_of(method, "float64", EXACT) * EPS["float64"] * size
        assert error <= METHODS[method].factor * np.sqrt(sum(tails)) * (1 + 1e-7) + rounding


def tolerance(method, problem, rtol, backend="numpy"):
    """Law 5: the error keeps to ``rtol``, to a factor of three where it is only estimated."""
    vectors, log, size = problem.expected()
    found = ftnn.compress(problem.lazy(backend=backend), method=method, rtol=rtol)
    found, found_log = result(found)
    errors = np.linalg.norm(found * np.exp(found_log - log)[:, None] - vectors, axis=1)
    slack = 1.0 if METHODS[method].error == "exact" else 3.0
    rounding = condition_of(method, "float64", EXACT) * EPS["float64"] * size
    assert (errors <= slack * rtol * np.linalg.norm(vectors, axis=1) + rounding).all()


def projection(method, problem, max_bond):
    """Every method is an orthogonal projection, |T - C|^2 = |T|^2 - |C|^2: estimates rest on it."""
    found, log = result(ftnn.compress(problem.lazy(), max_bond, method))
    vectors, expected_log, size = problem.expected()
    found = found * np.exp(log - expected_log)[:, None]
    left = np.linalg.norm(vectors - found, axis=1) ** 2
    right = np.linalg.norm(vectors, axis=1) ** 2 - np.linalg.norm(found, axis=1) ** 2
    condition = condition_of(method, "float64", EXACT)
    assert (np.abs(left - right) <= condition * EPS["float64"] * size**2).all()


def backends(method, problem, max_bond, dtype="float64", rtol=0.0, others=tuple(OTHERS)):
    """Law 6: every backend gives the result of NumPy."""
    expected = result(ftnn.compress(problem.lazy(dtype), max_bond, method, rtol, seed=3))
    for backend in others:
        found = ftnn.compress(problem.lazy(dtype, backend), max_bond, method, rtol, seed=3)
        assert_same(result(found), expected, condition_of(method, dtype, PLACES), dtype)


def gradients(method, problem, max_bond, dtype="float64"):
    """Law 7: gradients are finite for every finite input."""
    if not problem.has_gradients(dtype):
        return
    x, y = ([torch.from_numpy(core) for core in cores] for cores in problem.states(dtype))
    w, v = ([torch.from_numpy(core) for core in cores] for cores in problem.operators(dtype))
    arrays = [array.requires_grad_() for array in (*x, *y, *w, *v)]
    lazy = NETWORKS[problem.network][0](ftnn.MPS(x), ftnn.MPS(y), ftnn.MPO(w), ftnn.MPO(v))
    cores, _ = METHODS[method](lazy.terms, max_bond, 0.0, 1)
    loss = sum(
        (core * torch.linspace(-1, 1, core.numel()).to(core.dtype).view_as(core)).sum().real
        for core in cores
    )
    assert bool(torch.isfinite(loss))
    for gradient in torch.autograd.grad(loss, arrays, allow_unused=True):
        assert gradient is None or bool(torch.isfinite(gradient).all())


def finite_differences(method, chain, max_bond, dtype):
    """Law 7: gradients of the tensor, which is smooth although its cores may not be, are right."""
    w = [torch.tensor(core) for core in random_operator(chain.dims, chain.dims, 2, 9, dtype)]
    x = [torch.tensor(core) for core in chain.cores(dtype)]
    arrays = [array.requires_grad_() for array in (*w, *x)]

    def vector(*arrays):
        w, x = arrays[: chain.L], arrays[chain.L :]
        terms = (Term(Apply(tuple(w), State(tuple(x)))), Term(State(tuple(x)), 0.5))
        cores, _ = METHODS[method](terms, max_bond, 0.0, 1)
        env = cores[0][:, 0]  # (batch, phys, right)
        for core in cores[1:]:
            env = torch.einsum("bxl,blpr->bxpr", env.flatten(1, -2), core)
        return env.flatten(1)

    # fast mode looks along one random direction: the methods are many
    assert torch.autograd.gradcheck(vector, arrays, atol=1e-5, rtol=1e-4, fast_mode=True)


def repeatable(method, problem, max_bond, dtype="float64", backend="numpy"):
    """Law 9: the same seed, the same numbers; another seed, others, if it is random at all."""
    lazy = problem.lazy(dtype, backend)
    first, second = (ftnn.compress(lazy, max_bond, method, seed=5) for _ in range(2))
    for a, b in zip(first.cores, second.cores, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def degrees(network):
    """Degrees of a network in either state; None for a sum, which has no one degree."""
    (_, a, b), *others = NETWORKS[network][1](*[np.ones((1, 1))] * 4)
    return None if others else (a, b)


def homogeneous(method, problem, max_bond, dtype="float64", backend="numpy"):
    """Law 9: a factor on every core comes out as their product, and changes nothing else."""
    plain = Problem(problem.chain, problem.network, problem.seed)
    a, b = degrees(problem.network)  # a sum has none; its exact law covers it
    shift = np.log(10.0) * (a * sum(problem.scales) + b * sum(problem.other_scales))
    expected = result(ftnn.compress(plain.lazy(dtype, backend), max_bond, method))
    found = result(ftnn.compress(problem.lazy(dtype, backend), max_bond, method))
    assert_same(found, expected, condition_of(method, dtype, PLACES), dtype, shift)
