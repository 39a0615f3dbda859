"""The formats of weights: the network each of them is, for dimensions of outputs and inputs."""

from collections.abc import Callable, Mapping, Sequence

from .graph import Graph, Names

Dims = Sequence[int]


def _sized(names: str, dims: Dims) -> dict[str, int]:
    return {f"{names}{n}": dim for n, dim in enumerate(dims)}


def _graph(cores: Sequence[Names], outs: Mapping[str, int], ins: Mapping[str, int]) -> Graph:
    legs = {**outs, **ins}
    bonds = {name: 1 for core in cores for name in core if name not in legs}
    graph = Graph(tuple(cores), tuple(outs), tuple(ins), {**legs, **bonds})
    return graph


def svd(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make two matrices, (out, rank) and (rank, in); dimensions have one entry each."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    return _graph([(*outs, "r0"), ("r0", *ins)], outs, ins)


def mpo(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a chain with an output and an input on every core."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    return _graph(_chain([(o, i) for o, i in zip(outs, ins, strict=True)]), outs, ins)


def tt(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a chain with the inputs on the left and the outputs on the right."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    return _graph(_chain([(name,) for name in (*ins, *outs)]), outs, ins)


def ring(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make an MPO whose last core has a bond with the first."""
    graph = mpo(out_dims, in_dims)
    cores = list(graph.cores)
    last = f"r{len(cores) - 1}"
    if len(cores) > 1:
        cores[0], cores[-1] = (last, *cores[0]), (*cores[-1], last)
    return Graph(tuple(cores), graph.out_legs, graph.in_legs, {**graph.sizes, last: 1})


def tree(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a binary tree with an output and an input on every leaf."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    pairs = [(o, i) for o, i in zip(outs, ins, strict=True)]
    if len(pairs) == 1:
        return _graph(pairs, outs, ins)
    cores: list[Names] = [(*pair, f"r{n}") for n, pair in enumerate(pairs)]
    tops, count = [f"r{n}" for n in range(len(pairs))], len(pairs)
    while len(tops) > 2:
        above = []
        for left, right in zip(tops[::2], tops[1::2], strict=False):
            cores.append((left, right, f"r{count}"))
            above.append(f"r{count}")
            count += 1
        tops = above + (tops[-1:] if len(tops) % 2 else [])
    # the two that are left are one bond: what would be a root has no legs
    first, second = tops
    cores = [tuple(first if name == second else name for name in core) for core in cores]
    return _graph(cores, outs, ins)


class _Kernel:
    """Legs of a kernel: outputs, a group with the first of them; channels; axes of the kernel."""

    def __init__(self, out_dims: Dims, in_dims: Dims, kernel: Dims, groups: int):
        sizes = (groups, *out_dims) if groups > 1 else tuple(out_dims)
        self.outs, self.ins = _sized("o", sizes), _sized("i", (*in_dims, *kernel))
        names = tuple(self.outs)
        first = 2 if groups > 1 else 1
        self.rows: list[Names] = [names[:first], *((name,) for name in names[first:])]
        self.channels: list[Names] = [(name,) for name in tuple(self.ins)[: len(in_dims)]]
        self.axes: list[Names] = [(name,) for name in tuple(self.ins)[len(in_dims) :]]

    def graph(self, cores: Sequence[Names]) -> Graph:
        """Make a network of these legs."""
        return _graph(cores, self.outs, self.ins)


def tucker(out_dims: Dims, in_dims: Dims, kernel: Dims, groups: int = 1) -> Graph:
    """Make a factor for all outputs and channels, and a core with the kernel."""
    legs = _Kernel(out_dims, in_dims, kernel, groups)
    factors = [(*names, f"r{n}") for n, names in enumerate((*legs.rows, *legs.channels))]
    core = (*(f"r{n}" for n in range(len(factors))), *(name for (name,) in legs.axes))
    return legs.graph([*factors, core])


def cp(out_dims: Dims, in_dims: Dims, kernel: Dims, groups: int = 1) -> Graph:
    """Make a sum of outer products: one rank that all factors share."""
    legs = _Kernel(out_dims, in_dims, kernel, groups)
    return legs.graph([(*names, "r0") for names in (*legs.rows, *legs.channels, *legs.axes)])


def kernel_tt(out_dims: Dims, in_dims: Dims, kernel: Dims, groups: int = 1) -> Graph:
    """Make a chain: input channels, every dimension of the kernel, outputs."""
    legs = _Kernel(out_dims, in_dims, kernel, groups)
    return legs.graph(_chain([*legs.channels, *legs.axes, *legs.rows]))


def kernel_mpo(out_dims: Dims, in_dims: Dims, kernel: Dims, groups: int = 1) -> Graph:
    """Make a chain of the kernel, then an output and an input on every core.

    The convolution in tensor-train format of Garipov et al. (arXiv:1611.03214).
    """
    legs = _Kernel(out_dims, in_dims, kernel, groups)
    pairs = [(*row, *channel) for row, channel in zip(legs.rows, legs.channels, strict=True)]
    return legs.graph(_chain([tuple(name for (name,) in legs.axes), *pairs]))


def _chain(legs: Sequence[Names]) -> list[Names]:
    cores = []
    for n, names in enumerate(legs):
        left = (f"r{n - 1}",) if n else ()
        right = (f"r{n}",) if n < len(legs) - 1 else ()
        cores.append((*left, *names, *right))
    return cores


LINEAR: dict[str, Callable[[Dims, Dims], Graph]] = {
    "svd": svd,
    "mpo": mpo,
    "tt": tt,
    "ring": ring,
    "tree": tree,
}
"""Formats of the weight of a linear layer."""

CONV: dict[str, Callable[[Dims, Dims, Dims, int], Graph]] = {
    "tucker": tucker,
    "cp": cp,
    "tt": kernel_tt,
    "mpo": kernel_mpo,
}
"""Formats of the kernel of a convolution, for factors of the outputs and of the channels of one
group, sizes of the kernel, and a number of groups."""

EMBEDDING: dict[str, Callable[[Dims, Dims], Graph]] = {"mpo": mpo}
"""Formats of a table of embeddings, whose inputs are its rows."""


def check_format(name: str, formats: Mapping[str, object]) -> None:
    """Raise ``ValueError`` unless a format has this name."""
    if name not in formats:
        raise ValueError(f"format is {name!r}, expected one of {', '.join(formats)}")
