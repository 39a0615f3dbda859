"""The drawn problems of the benchmarks, and the places where they run.

Problems are drawn on NumPy from a seed; everything else, asv and the ratio table alike, converts
them. A place is a backend and a device, such as "torch-cuda".
"""

import importlib.util
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import quimb.tensor as qtn

import ftnn
from ftnn.arrays.backend import convert
from ftnn.chains.lazy import Lazy

PLACES = ("numpy-cpu", "torch-cpu", "torch-cuda", "cupy-cuda")

# The two products of the table of speeds; dtype and seed are given when drawn.
LONG = {"L": 10, "phys_in": 4, "phys_out": 4, "D": 8, "chi": 16, "batch": 128}
WIDE = {"L": 5, "phys_in": 4, "phys_out": 8, "D": 8, "chi": 8, "batch": 256}


class Problem(NamedTuple):
    """A product of an operator and a batch of states.

    Attributes
    ----------
    weight : tuple of array (left, out, in, right)
    state : tuple of array (batch, left, phys, right)
    """

    weight: tuple
    state: tuple

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.state[0].shape[0]

    def at(self, place: str) -> "Problem":
        """Copy to a place."""
        backend, device = place.split("-")
        return Problem(*(tuple(convert(c, backend, device=device) for c in part) for part in self))

    def lazy(self) -> Lazy:
        """The product as ftnn compresses it; nothing is contracted."""
        return ftnn.MPO(self.weight) @ ftnn.MPS(self.state)

    def quimb(self, sample: int) -> qtn.TensorNetwork:
        """The product of one sample as quimb compresses it; nothing is contracted."""
        arrays = [self.weight[0][0], *self.weight[1:-1], self.weight[-1][..., 0]]
        operator = qtn.MatrixProductOperator(arrays, shape="ludr")
        state = ftnn.MPS(self.state)[sample]
        return qtn.tensor_network_apply_op_vec(operator, state, contract=False)

    def short(self, L: int) -> "Problem":
        """The same with all but ``L`` sites of the middle left out, to warm up with."""
        half = L // 2
        return Problem(*(part[:half] + part[half - L :] for part in self))


def product(
    L: int,
    phys_in: int,
    phys_out: int,
    D: int,
    chi: int,
    batch: int,
    dtype: str = "float64",
    seed: int = 0,
) -> Problem:
    """Gaussian cores, scaled so that the norms of state and product are about one."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], fan: int) -> np.ndarray:
        x = rng.standard_normal(shape)
        if "complex" in dtype:
            x = (x + 1j * rng.standard_normal(shape)) / 2**0.5
        return (x / fan**0.5).astype(dtype)

    return Problem(
        tuple(draw((l, phys_out, phys_in, r), l * phys_out) for l, r in _edges(L, D)),
        tuple(draw((batch, l, phys_in, r), l * phys_in) for l, r in _edges(L, chi)),
    )


def synthetic(L: int = 100, phys: int = 2, D: int = 50, chi: int = 50, seed: int = 0) -> Problem:
    """The synthetic problem of the SRC paper (arXiv:2504.06475), one sample in float64.

    Every core is i.i.d. uniform(-0.5, 1), divided by its Frobenius norm.
    """
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        x = rng.uniform(-0.5, 1.0, shape)
        return x / np.linalg.norm(x)

    return Problem(
        tuple(draw(l, phys, phys, r) for l, r in _edges(L, D)),
        tuple(draw(1, l, phys, r) for l, r in _edges(L, chi)),
    )


def _edges(L: int, bond: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise([1] + [bond] * (L - 1) + [1]))


def forward(
    problem: Problem, place: str, bond: int, method: str = "src", gradients: bool = False
) -> Callable[[], object]:
    """Compress at a place; the lazy network is built beforehand.

    Parameters
    ----------
    problem : Problem
        On NumPy.
    place : str
    bond : int
    method : str
    gradients : bool
        Record the graph, on torch, for gradients of all cores.
    """
    here = problem.at(place)
    if gradients:
        for core in (*here.weight, *here.state):
            core.requires_grad_()
    lazy = here.lazy()
    return lambda: ftnn.compress(lazy, max_bond=bond, method=method)


def compiled(problem: Problem, place: str, bond: int) -> Callable[[], object]:
    """Compress on torch by "src" as one compiled graph, and compile it at once."""
    import torch

    torch.compiler.reset()
    lazy = problem.at(place).lazy()
    fast = ftnn.truncation.compiled(bond)
    fast(lazy)
    return lambda: fast(lazy)


def forward_backward(
    problem: Problem, place: str, bond: int, method: str = "src"
) -> Callable[[], object]:
    """Compress on torch, and take the gradient with respect to all cores of weight and state.

    The gradient that comes from above is drawn, once.
    """
    import torch

    here = problem.at(place)
    leaves = [core.requires_grad_() for core in (*here.weight, *here.state)]
    lazy = here.lazy()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        shapes = [core.shape for core in ftnn.compress(lazy, max_bond=bond, method=method).cores]
    upstream = [torch.as_tensor(rng.standard_normal(shape)).to(leaves[0]) for shape in shapes]

    def run() -> object:
        cores = ftnn.compress(lazy, max_bond=bond, method=method).cores
        return torch.autograd.grad(cores, leaves, upstream)

    return run


QUIMB_QR = {"method": "qr", "cutoff": 0.0}
"""Options by which quimb's src orthogonalizes by QR; by default it does by SVD with a cutoff."""


def quimb_src(
    network: qtn.TensorNetwork, max_bond: int, project_opts: dict | None = None
) -> qtn.MatrixProductState:
    """Compress what :meth:`Problem.quimb` gives. quimb draws its noise in float64."""
    return qtn.tensor_network_1d_compress(
        network, max_bond=max_bond, cutoff=0.0, method="src", project_opts=project_opts
    )


def quimb_cores(state: qtn.MatrixProductState) -> tuple[np.ndarray, ...]:
    """Cores (1, left, phys, right) of a quimb state."""
    return ftnn.MPS.from_quimb(qtn.MatrixProductState(state.arrays)).cores


def usable(place: str) -> bool:
    """Whether the backend is installed and the device is there."""
    backend, device = place.split("-")
    if importlib.util.find_spec(backend) is None:
        return False
    if device == "cpu":
        return True
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import cupy

    return cupy.cuda.is_available()


def places_of(device: str) -> list[str]:
    """Places on "cpu" or "cuda" that can be used here."""
    return [place for place in PLACES if place.endswith(device) and usable(place)]


def device_name(device: str) -> str:
    """What the figures were measured on."""
    if device == "cuda":
        if usable("torch-cuda"):
            import torch

            return torch.cuda.get_device_name()
        import cupy

        return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model n"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
