"""The floor of a run: the time that its matrix products alone take.

The shapes of all matrix products of a run are recorded on torch; then each shape is timed alone,
in the library of the run, with contiguous operands and a preallocated result, and weighted by how
often it occurs. NumPy and CuPy run the same code as torch, hence the same shapes.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..arrays.backend import convert, synchronize

SECONDS = 0.01
"""Each shape is repeated for about this many seconds."""

_ATEN = torch.ops.aten
_OPERANDS = {_ATEN.mm: 0, _ATEN.bmm: 0, _ATEN.addmm: 1, _ATEN.baddbmm: 1}


@dataclass(frozen=True)
class Product:
    """Shape of a batch of matrix products (m, k) @ (k, n).

    Attributes
    ----------
    batch, m, k, n : int
    shared : tuple of bool
        Whether the left and the right operand are one matrix for the whole batch.
    dtype : str
    """

    batch: int
    m: int
    k: int
    n: int
    shared: tuple[bool, bool]
    dtype: str

    @property
    def flops(self) -> int:
        """Multiplications and additions, counted as real ones, as torch does."""
        return 2 * self.batch * self.m * self.k * self.n


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        first = _OPERANDS.get(func._overloadpacket)
        if first is not None:
            a, b = args[first : first + 2]
            batch = a.shape[0] if a.ndim == 3 else 1
            shared = (batch > 1 and a.stride(0) == 0, batch > 1 and b.stride(0) == 0)
            name = str(a.dtype).removeprefix("torch.")
            self.counts[Product(batch, a.shape[-2], a.shape[-1], b.shape[-1], shared, name)] += 1
        return func(*args, **(kwargs or {}))


def products(run: Callable[[], object]) -> Counter[Product]:
    """Count the matrix products of a run on torch, by shape.

    Parameters
    ----------
    run : callable
        Called without arguments; gradients are recorded only if it enables them.

    Raises
    ------
    RuntimeError
        If torch's own counter disagrees: the recorder has missed a product.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _Recorder() as recorder:
        run()
    total = flops(recorder.counts)
    if total != counter.get_total_flops():
        raise RuntimeError(f"recorded {total} FLOPs, but torch counts {counter.get_total_flops()}")
    return recorder.counts


def flops(counts: Counter[Product]) -> int:
    """Sum the floating point operations of all products."""
    return sum(count * shape.flops for shape, count in counts.items())


class Floor:
    """The matrix products of a run, ready to be timed at a place.

    Parameters
    ----------
    counts : counter of Product
    place : str
        Backend and device, such as "torch-cpu".
    """

    def __init__(self, counts: Counter[Product], place: str) -> None:
        self.counts = counts
        self.place = place
        self.work = {shape: self._prepare(shape) for shape in counts}

    def seconds(self) -> float:
        """Time every shape once, and add up."""
        return sum(
            count * min(map(self._time, self.work[shape])) for shape, count in self.counts.items()
        )

    def _prepare(self, shape: Product) -> list[tuple[Callable[[], object], int]]:
        """Return ways to compute a product, each with a number of repetitions."""
        ways = [_multiply(shape, self.place, (False, False))]
        if any(shape.shared):
            ways.append(_multiply(shape, self.place, shape.shared))
        return [(way, self._repetitions(way)) for way in ways]

    def _repetitions(self, way: Callable[[], object]) -> int:
        self._time((way, 1))
        once = median(self._time((way, 1)) for _ in range(3))
        return max(1, round(SECONDS / max(once, 1e-7)))

    def _time(self, way: tuple[Callable[[], object], int]) -> float:
        call, number = way
        synchronize(self.place)
        start = time.perf_counter()
        for _ in range(number):
            call()
        synchronize(self.place)
        return (time.perf_counter() - start) / number


def _multiply(shape: Product, place: str, shared: tuple[bool, bool]) -> Callable[[], object]:
    backend, device = place.split("-")
    rng = np.random.default_rng(0)

    def draw(rows: int, columns: int, once: bool):
        full = (1 if once else shape.batch, rows, columns)
        return convert(rng.standard_normal(full), backend, shape.dtype, device)

    a, b = draw(shape.m, shape.k, shared[0]), draw(shape.k, shape.n, shared[1])
    out = convert(np.zeros((shape.batch, shape.m, shape.n)), backend, shape.dtype, device)
    if backend == "torch":
        if shape.batch == 1:
            a, b, out = a[0], b[0], out[0]
            return lambda: torch.mm(a, b, out=out)
        a, b = a.expand(shape.batch, -1, -1), b.expand(shape.batch, -1, -1)
        return lambda: torch.bmm(a, b, out=out)
    if shape.batch == 1:
        a, b, out = a[0], b[0], out[0]
    if backend == "numpy":
        return lambda: np.matmul(a, b, out=out)
    import cupy

    return lambda: cupy.matmul(a, b, out=out)
