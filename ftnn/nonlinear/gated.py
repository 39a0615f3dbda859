"""Gated and Polynomial: nonlinearities that multiply vectors entry by entry."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from autoray import do

from ..chains.bonds import MaxBond, check_bonds, output_bonds
from ..chains.dims import check_both_dims, check_dims
from ..chains.terms import Apply, Cores, Hadamard, Node, State, Term
from ..layers.initialization import (
    initial_weight,
    sketch_of_layer,
    sketch_shapes,
    weight_shapes,
)
from ..layers.layer import Layer, collect, scale_evenly, site_entries
from ..truncation.src import compress_src
from .hadamard import interpolate_product

PRODUCTS = ("sketch", "cross")
"""How a :class:`Gated` truncates its product."""


class Gated(Layer):
    r"""``(1 + A x) * (B x)``, entry by entry, or the plain bilinear ``(A x) * (B x)``.

    A and B are MPOs. It is a polynomial of the dense vector, so nothing depends on the gauge of
    the input, and with enough bond it equals the dense computation.

    Parameters
    ----------
    in_dims, out_dims : sequence of int
        Physical dimensions of the input and of the output; as many sites.
    bond_dim : int or sequence of int
        Bond dimension D of both weights, at every cut or at each of the L - 1.
    max_bond : int or sequence of int
        Bond dimension of the output, likewise.
    inner_bond : int or sequence of int, optional
        Bond dimension to which A x and B x are truncated before they are multiplied; by default
        ``max_bond``. The exact one is D times that of x.
    offset : bool
        Whether to add the 1; without it the layer is bilinear.
    seed : int
        Seed of the weights and of the test matrices.
    product : {"sketch", "cross"}
        Truncate the product by the layer's sketch, or interpolate it at chosen entries before
        (:mod:`ftnn.nonlinear.hadamard`). For inner and outer bonds m the time grows as
        :math:`m^4` and as :math:`m^3`, the memory as :math:`m^3` and as :math:`m^2`. The second is
        faster from bonds of 32 to 64 on, of 16 to 32 in a batch of 16 (docs/performance.md).

    Notes
    -----
    With x of bond :math:`\chi` and inner bond m the product has bond :math:`m^2`, and one more
    term has bond m; their sum is truncated once, by the layer's own sketch. With the offset, A
    starts ten times smaller than B, so the layer starts near the linear B x.

    With ``product="cross"`` the output is still in the gauge of the sketch, which then truncates
    nothing. A product that compresses to ``max_bond`` comes out about as accurate as by the sketch;
    one that does not comes out worse, with an error that may exceed one. The places are held fixed
    in gradients, and jump as x changes.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> layer = ftnn.nonlinear.Gated((4, 4, 4), (3, 3, 3), bond_dim=2, max_bond=9, inner_bond=8)
    >>> a, b = (ftnn.MPO(cores).to_dense() for cores in layer.operators().values())
    >>> dense = x.to_dense()
    >>> bool(np.allclose(layer(x).to_dense(), (1 + dense @ a.T) * (dense @ b.T)))
    True
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]
    recomputes_itself = True

    def __init__(
        self,
        in_dims: Sequence[int],
        out_dims: Sequence[int],
        bond_dim: MaxBond,
        max_bond: MaxBond,
        inner_bond: MaxBond | None = None,
        offset: bool = True,
        seed: int = 0,
        product: str = "sketch",
    ):
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        bond_dim = check_bonds(bond_dim, len(out_dims), "bond_dim")
        max_bond = check_bonds(max_bond, len(out_dims))
        inner_bond = max_bond if inner_bond is None else inner_bond
        inner_bond = check_bonds(inner_bond, len(out_dims), "inner_bond")
        if product not in PRODUCTS:
            raise ValueError(f"product is {product!r}; choose one of {', '.join(PRODUCTS)}")
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.max_bond, self.inner_bond = bond_dim, max_bond, inner_bond
        self.offset, self.seed, self.product = offset, seed, product
        shapes = weight_shapes(in_dims, out_dims, bond_dim)
        self.declare(
            site_entries("A", shapes)
            | site_entries("B", shapes)
            | site_entries("omega", sketch_shapes(out_dims, max_bond, inner_bond)),
            "bond_dim, max_bond or inner_bond",
        )
        for n, name in enumerate("AB"):
            weight = initial_weight(in_dims, out_dims, bond_dim, 2 * seed + n)
            shrink = 0.1 ** (1 / len(weight)) if offset and name == "A" else 1.0
            self.params |= site_entries(name, [core * shrink for core in weight])
        self.buffers |= site_entries("omega", sketch_of_layer(out_dims, seed, max_bond, inner_bond))

    def operators(self) -> dict[str, Cores]:
        """Return the weights "A" and "B"."""
        return {name: collect(self.params, name) for name in "AB"}

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output, before any truncation of A x, B x or the result."""
        gate, value = (Apply(weight, State(cores)) for weight in self.operators().values())
        product = Term(Hadamard(gate, value))
        return (product, Term(value)) if self.offset else (product,)

    def rescale(self, log_factor: float) -> None:
        """Multiply the output by ``exp(log_factor)``: it is linear in B."""
        scale_evenly(self.params, "B", log_factor)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, in, right)`` to ``(batch, left, out, right)``."""
        omegas = collect(self.buffers, "omega")
        gate, value = (
            State(compress_src((Term(Apply(weight, State(cores))),), omegas, self.inner_bond))
            for weight in self.operators().values()
        )
        terms = (Term(Hadamard(gate, value)), *((Term(value),) if self.offset else ()))
        if self.product == "cross":
            bonds = output_bonds(terms, self.max_bond)
            found = interpolate_product(gate.cores, value.cores, omegas, bonds, self.offset)
            terms = (Term(State(found)),)
        return compress_src(terms, omegas, self.max_bond)


class Polynomial(Layer):
    r"""A polynomial of every entry of the vector, exact to truncation.

    :math:`y = c_0 + c_1 x + \ldots + c_n x^n` entry by entry, by Horner's rule
    :math:`y \leftarrow c_k 1 + x \circ y`, truncated after every step.

    Parameters
    ----------
    phys_dims : sequence of int
    coefficients : sequence of float
        From c_0 to c_n, n >= 1.
    max_bond : int or sequence of int
        Bond dimension of the output and of every intermediate step.
    seed : int
        Seed of the test matrices.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 16)), (4, 4))
    >>> y = ftnn.nonlinear.Polynomial((4, 4), [1.0, 0.0, -0.5, 2.0], max_bond=4)(x)
    >>> t = x.to_dense()
    >>> bool(np.allclose(y.to_dense(), 1 - 0.5 * t**2 + 2 * t**3))
    True
    """

    in_dims: tuple[int, ...]
    recomputes_itself = True

    def __init__(
        self,
        phys_dims: Sequence[int],
        coefficients: Sequence[float],
        max_bond: MaxBond,
        seed: int = 0,
    ):
        dims = check_dims(phys_dims, "phys_dims")
        max_bond = check_bonds(max_bond, len(dims))
        values = np.asarray(coefficients, dtype=float)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
            raise ValueError(
                f"coefficients is {coefficients!r}, expected two or more finite numbers, c_0 to c_n"
            )
        super().__init__(dims, dims)
        self.phys_dims = dims
        self.coefficients = [float(value) for value in values]
        self.max_bond, self.seed = max_bond, seed
        self.declare(site_entries("omega", sketch_shapes(dims, max_bond)), "max_bond")
        self.buffers |= site_entries("omega", sketch_of_layer(dims, seed, max_bond))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output, one term per power, without truncation."""
        x, power = State(cores), cast(Node, State(cores))
        terms = [Term(self._ones(cores), self.coefficients[0])]
        for coefficient in self.coefficients[1:]:
            terms.append(Term(power, coefficient))
            power = Hadamard(x, power)
        return tuple(term for term in terms if term.scale != 0.0) or tuple(terms[:1])

    def _ones(self, cores: Cores) -> State:
        return State(tuple(do("ones", (1, 1, p, 1), like=cores[0]) for p in self.phys_dims))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same physical dimensions."""
        omegas, x = collect(self.buffers, "omega"), State(cores)
        ones = self._ones(cores)
        *rest, second, last = self.coefficients
        terms: tuple[Term, ...] = (Term(x, last), Term(ones, second))
        for coefficient in reversed(rest):
            y = State(compress_src(terms, omegas, self.max_bond))
            terms = (Term(Hadamard(x, y)), Term(ones, coefficient))
        return compress_src(terms, omegas, self.max_bond)
