"""Bonds of a network of truncated layers: cut to what they can need, checked against memory."""

from collections.abc import Sequence

from ..chains.bonds import check_memory, cut_bonds
from ..chains.operators import weight_bonds
from ..chains.terms import Cores
from ..layers.initialization import weight_shapes

Dims = tuple[int, ...]


def bonds_of(*batches: Cores) -> tuple[int, ...]:
    """Return the bond left of every site and right of the last, the largest of all batches.

    Parameters
    ----------
    *batches : tuple of array (batch, left, phys, right)
        States of the same sites.
    """
    return (1, *(max(cores[k].shape[3] for cores in batches) for k in range(len(batches[0]))))


def needed_bond(
    layers: Sequence[tuple[Dims, Dims]],
    bonds: tuple[int, ...],
    bond_dim: int,
    max_bond: int,
    batch: int,
) -> int:
    """Return ``max_bond``, cut to the largest bond that any of the layers can need.

    A product of an operator and a state has the bonds of both, multiplied: a larger sketch, which
    a layer stores, would have rows that nothing reads. Results are those of ``max_bond``.

    Parameters
    ----------
    layers : sequence of (in_dims, out_dims)
        The truncated layers, in order; other layers between them keep bonds.
    bonds : tuple of int
        Those of the states that enter, as :func:`bonds_of` returns them.
    bond_dim, max_bond : int
        Of the weights, and of the states that leave each layer.
    batch : int
        Number of states at a time.

    Raises
    ------
    ValueError
        If the weights, or the products and their compressed states, exceed the memory; it names
        phys, bond_dim or max_bond, and nothing has been allocated.

    Examples
    --------
    >>> dims = (6,) * 16
    >>> needed_bond([(dims, dims)] * 2, (1,) * 17, bond_dim=2, max_bond=10**9, batch=256)
    4
    >>> needed_bond([(dims, dims)] * 2, (1,) * 17, bond_dim=2, max_bond=3, batch=256)
    3
    """
    for argument, bond in (("phys", 1), ("bond_dim", bond_dim)):
        shapes = [shape for ins, outs in layers for shape in weight_shapes(ins, outs, bond)]
        check_memory(shapes, argument)
    largest, shapes = 1, []
    for ins, outs in layers:
        exact = [w * b for w, b in zip(weight_bonds(outs, ins, bond_dim), bonds, strict=True)]
        bonds = cut_bonds(outs, tuple(min(bond, max_bond) for bond in exact[1:-1]))
        largest = max(largest, *bonds)
        for left, wide, out, right in zip(bonds[:-1], exact[:-1], outs, bonds[1:], strict=True):
            # the product with what is right of a site, and the core that it becomes
            shapes += [(batch, wide, out, right), (batch, left, out, right)]
    check_memory(shapes, "max_bond")
    return min(max_bond, largest)
