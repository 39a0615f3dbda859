"""The network of a weight: which core has which legs and bonds, and their sizes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Names of the axes of every core of a weight, and the size of every name.

    Parameters
    ----------
    cores : tuple of tuple of str
        Names of the axes of every core. A name that is no leg is a bond: it is on two cores, or,
        as the rank of a CP decomposition, on all of them.
    out_legs, in_legs : tuple of str
        Legs, in the order in which they make the rows and the columns of the weight.
    sizes : mapping of str to int

    Examples
    --------
    >>> graph = Graph((("o", "r"), ("r", "i")), ("o",), ("i",), {"o": 4, "i": 6, "r": 2})
    >>> graph.bonds, graph.num_params, graph.shape(0)
    (('r',), 20, (4, 2))
    """

    cores: tuple[Names, ...]
    out_legs: Names
    in_legs: Names
    sizes: Mapping[str, int]

    @cached_property
    def legs(self) -> Names:
        """Outputs, then inputs."""
        return self.out_legs + self.in_legs

    @cached_property
    def bonds(self) -> Names:
        """Names that are no legs, in the order of the cores."""
        names = dict.fromkeys(name for core in self.cores for name in core)
        return tuple(name for name in names if name not in self.legs)

    def shape(self, core: int) -> tuple[int, ...]:
        """Return the shape of a core."""
        return tuple(self.sizes[name] for name in self.cores[core])

    @property
    def num_params(self) -> int:
        """Number of entries of all cores."""
        return sum(prod(self.shape(core)) for core in range(len(self.cores)))

    @property
    def ranks(self) -> dict[str, int]:
        """Sizes of the bonds."""
        return {bond: self.sizes[bond] for bond in self.bonds}

    def with_ranks(self, ranks: Mapping[str, int]) -> "Graph":
        """Return the same network with bonds of other sizes."""
        return Graph(self.cores, self.out_legs, self.in_legs, {**self.sizes, **ranks})

    def holders(self, name: str) -> list[int]:
        """Return the cores with this name."""
        return [n for n, core in enumerate(self.cores) if name in core]

    def edges(self) -> Iterator[tuple[int, int, str]]:
        """Yield two cores and their bond, for all bonds of two cores."""
        for bond in self.bonds:
            holders = self.holders(bond)
            if len(holders) == 2:
                yield holders[0], holders[1], bond

    @cached_property
    def is_tree(self) -> bool:
        """Whether every bond, if cut, takes the network apart."""
        return len(list(self.edges())) == len(self.bonds) == len(self.cores) - 1

    def neighbours(self, core: int) -> list[tuple[int, str]]:
        """Return the cores that share a bond of two with a core, and the bonds."""
        found = []
        for first, second, bond in self.edges():
            if core in (first, second):
                found.append((second if core == first else first, bond))
        return sorted(found)

    @cached_property
    def parents(self) -> dict[int, tuple[int, str]]:
        """Of a tree whose root is the last core: the parent of every core, and the bond to it.

        In the order in which leaves come before their parents.
        """
        root = len(self.cores) - 1
        found: dict[int, tuple[int, str]] = {}
        queue, seen = [root], {root}
        for core in queue:
            for other, bond in self.neighbours(core):
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
                    found[other] = (core, bond)
        return dict(reversed(found.items()))

    def cores_behind(self, bond: str) -> tuple[int, ...]:
        """Return the cores of a tree that a bond parts from the root."""
        cores = {next(core for core, (_, name) in self.parents.items() if name == bond)}
        for core in reversed(self.parents):
            if self.parents[core][0] in cores:
                cores.add(core)
        return tuple(sorted(cores))

    def legs_behind(self, bond: str) -> Names:
        """Return the legs of a tree that a bond parts from the root."""
        here = {name for core in self.cores_behind(bond) for name in self.cores[core]}
        return tuple(leg for leg in self.legs if leg in here)

    @cached_property
    def tour(self) -> tuple[int, ...]:
        """A closed walk over all cores; in a tree two that follow each other are neighbours."""
        if not self.is_tree:
            return tuple(range(len(self.cores)))

        def walk(core: int, before: int | None) -> list[int]:
            steps = [core]
            for other, _ in self.neighbours(core):
                if other != before:
                    steps += [*walk(other, core), core]
            return steps

        steps = walk(len(self.cores) - 1, None)
        return tuple(steps[:-1]) if len(steps) > 1 else tuple(steps)

    @property
    def is_ring(self) -> bool:
        """Whether the bond between the last core and the first closes a chain."""
        return len(list(self.edges())) == len(self.bonds) == len(self.cores)

    @cached_property
    def opened(self) -> "Graph":
        """Of a ring: the chain without its last bond."""
        last = next(name for name in self.cores[-1] if name in self.cores[0] and name in self.bonds)
        cores = tuple(tuple(name for name in core if name != last) for core in self.cores)
        sizes = {name: size for name, size in self.sizes.items() if name != last}
        return Graph(cores, self.out_legs, self.in_legs, sizes)

    def most_ranks(self) -> dict[str, int]:
        """Return the rank of every bond beyond which nothing is gained.

        Of a tree, the size of the smaller side. Of a ring, that of the chain, which suffices with
        a last bond of 1; this bond may be as large as the largest other. Of a sum of products, as
        many terms as there are entries of all legs but the largest.
        """
        total = prod(self.sizes[leg] for leg in self.legs)
        if self.is_tree:
            sides = {b: prod(self.sizes[leg] for leg in self.legs_behind(b)) for b in self.bonds}
            return {bond: min(side, total // side) for bond, side in sides.items()}
        if self.is_ring:
            chain = self.opened.most_ranks()
            return {bond: chain.get(bond, max(chain.values())) for bond in self.bonds}
        largest = max(prod(self.sizes[x] for x in core if x in self.legs) for core in self.cores)
        return dict.fromkeys(self.bonds, total // largest)

    def full_ranks(self) -> dict[str, int]:
        """Return ranks at which every weight is exact."""
        most = self.most_ranks()
        if self.is_ring:
            most |= {bond: 1 for bond in self.bonds if bond not in self.opened.bonds}
        return most
