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


def tucker(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a factor for the outputs, one for the input channels, and a core with the kernel."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    channel, *kernel = ins
    return _graph([(*outs, "r0"), (channel, "r1"), ("r0", "r1", *kernel)], outs, ins)


def cp(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a sum of outer products: one rank that all factors share."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    return _graph([(*outs, "r0"), *((name, "r0") for name in ins)], outs, ins)


def kernel_tt(out_dims: Dims, in_dims: Dims) -> Graph:
    """Make a chain: input channels, every dimension of the kernel, outputs."""
    outs, ins = _sized("o", out_dims), _sized("i", in_dims)
    return _graph(_chain([*((name,) for name in ins), tuple(outs)]), outs, ins)


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

CONV: dict[str, Callable[[Dims, Dims], Graph]] = {"tucker": tucker, "cp": cp, "tt": kernel_tt}
"""Formats of the kernel of a convolution: inputs are channels and dimensions of the kernel."""

EMBEDDING: dict[str, Callable[[Dims, Dims], Graph]] = {"mpo": mpo}
"""Formats of a table of embeddings, whose inputs are its rows."""


def check_format(name: str, formats: Mapping[str, object]) -> None:
    """Raise ``ValueError`` unless a format has this name."""
    if name not in formats:
        raise ValueError(f"format is {name!r}, expected one of {', '.join(formats)}")
