"""merge: two linear layers to one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import as_like, to_numpy
from ..chains.bonds import MaxBond, check_bonds, check_tolerance
from ..chains.terms import Apply, Cores, State, Term
from ..layers.copies import copy_array, duplicate, reconstruct
from ..layers.layer import Layer, collect, site_entries
from ..layers.linear import Linear
from ..layers.readouts import Readout
from ..layers.sequential import Sequential
from ..layers.surgery import Where, path_of, replace
from ..truncation.direct import compress_direct
from .where import check_model

ROUNDING = 1e-13
"""Relative error, in double precision, to which a product is exact though its bonds are cut."""


def merge(
    model: Layer,
    a: Where,
    b: Where,
    max_bond: MaxBond | None = None,
    rtol: float = 0.0,
) -> Layer:
    r"""Return a model in which one layer stands for two linear ones.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    a, b : str or callable
        Dotted paths of a :class:`ftnn.Linear` and of the :class:`ftnn.Linear` or
        :class:`ftnn.Readout` that follows it in the same :class:`ftnn.Sequential`, or functions
        that return them, given the model.
    max_bond : int or sequence of int, optional
        Largest bond of the new weight, at every cut or at each; by default the exact one.
    rtol : float
        Relative error of the new weight, in the Frobenius norm, to which its bonds are cut.

    Returns
    -------
    Layer
        A new model that shares no array with the given one, one layer shorter. Without ``max_bond``
        and ``rtol`` it is the same function if the first layer truncated nothing: there is no
        output of that layer left to truncate.

    Raises
    ------
    TypeError, ValueError
        If they are not such layers, one after the other, or hold frozen arrays.

    Notes
    -----
    With :math:`y = W_b (W_a x + c_a) + c_b` the weight is the product :math:`W_b W_a` of two MPOs,
    of bond :math:`D_a D_b` at most, and the bias :math:`W_b c_a + c_b`, both formed in double
    precision. Bonds are cut by SVD to the exact rank, or as far as asked. The bias is never cut
    further. Truncation of the output, and its test matrices, are those of the second layer.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims = (3, 3, 3)
    >>> model = ftnn.Sequential(
    ...     ftnn.Linear(dims, dims, 2, 9), ftnn.Linear(dims, dims, 2, 9), ftnn.nonlinear.KAN(dims)
    ... )
    >>> merged = ftnn.growth.merge(model, "0", "1")
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 27)), dims)
    >>> len(merged.layers), merged.layers[0].bond_dim
    (2, (4, 4))
    >>> bool(np.allclose(merged(x).to_dense(), model(x).to_dense()))
    True
    """
    check_model(model)
    parent, first, second = _pair(model, path_of(model, a), path_of(model, b))
    check_tolerance(rtol)
    if max_bond is not None:
        max_bond = check_bonds(max_bond, len(first.in_dims))
    new = _merged(first, second, max_bond, rtol)
    around = {name.rstrip("."): part for name, part in model.walk()}[parent]
    layers = [layer for layer in around.children.values() if layer is not first]
    parts = [new if layer is second else duplicate(layer) for layer in layers]
    shorter = reconstruct(around, {str(n): part for n, part in enumerate(parts)})
    return replace(model, parent, shorter)


def _pair(model: Layer, a: str, b: str) -> tuple[str, Linear, Linear | Readout]:
    """Return the path of the layer around two, and the two, or raise an error."""
    found = {name.rstrip("."): part for name, part in model.walk()}
    for name, path, kinds in (("a", a, (Linear,)), ("b", b, (Linear, Readout))):
        if not isinstance(found[path], kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"{name} is {path!r}, a {type(found[path]).__name__}, expected a {expected}"
            )
        if found[path].frozen:
            raise ValueError(
                f"{name} is {path!r}, which has frozen arrays; thaw them first: "
                f"ftnn.growth.thaw(model, {path!r})"
            )
    parent, _, last = a.rpartition(".")
    behind, _, place = b.rpartition(".")
    follows = parent == behind and isinstance(found[parent], Sequential)
    if not follows or int(place) != int(last) + 1:
        raise ValueError(
            f"a is {a!r} and b is {b!r}, expected two layers of a Sequential, the second right "
            "behind the first"
        )
    return parent, found[a], found[b]  # type: ignore[return-value]


def _merged(
    first: Linear, second: Linear | Readout, max_bond: MaxBond | None, rtol: float
) -> Linear | Readout:
    """Return one layer for two."""
    like = first.params["weight.0"]
    before, behind = _double(first, "weight"), _double(second, "weight")
    weight = _cut(_product(before, behind), max_bond, max(rtol, ROUNDING))
    bonds = tuple(int(core.shape[3]) for core in weight[:-1])
    layer: Linear | Readout
    if isinstance(second, Readout):
        layer = Readout(
            first.in_dims,
            second.num_outputs,
            bonds,
            second.seed,
            first.bias or second.bias,
            second.output_site,
        )
        if layer.bias:
            layer.params["bias"] = _shift_of_readout(first, second)
    else:
        shift = _shift(first, second)
        own: MaxBond = tuple(int(core.shape[3]) for core in shift[:-1]) if shift else 1
        layer = Linear(
            first.in_dims,
            second.out_dims,
            bonds,
            second.max_bond,
            first.bias or second.bias,
            second.method,
            second.seed,
            own,
        )
        layer.params |= site_entries("bias", shift)
        layer.buffers |= {name: copy_array(omega) for name, omega in second.buffers.items()}
    layer.params |= site_entries("weight", weight)
    for name, array in layer.params.items():
        layer.params[name] = as_like(to_numpy(array), like)
    layer.training = second.training
    return layer


def _double(layer: Layer, prefix: str) -> list[np.ndarray]:
    """Return the cores of a chain of parameters on NumPy, in double precision."""
    cores = [to_numpy(core) for core in collect(layer.params, prefix)]
    return [core.astype(np.result_type(core, np.float64)) for core in cores]


def _product(before: Sequence[np.ndarray], behind: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the cores (left, out, in, right) of the product of two operators."""
    cores = []
    for first, second in zip(before, behind, strict=True):
        core = np.einsum("aomb,cmid->acoibd", second, first)  # a, c left; b, d right
        (l, m), (o, i, r, s) = core.shape[:2], core.shape[2:]
        cores.append(core.reshape(l * m, o, i, r * s))
    return cores


def _cut(cores: list[np.ndarray], max_bond: MaxBond | None, rtol: float) -> list[np.ndarray]:
    """Cut the bonds of an operator by SVD, in the Frobenius norm."""
    flat = tuple(core.reshape(1, core.shape[0], -1, core.shape[3]) for core in cores)
    found, _ = compress_direct((Term(State(flat)),), max_bond, rtol)
    return [
        new.reshape(new.shape[1], *old.shape[1:3], new.shape[3])
        for new, old in zip(found, cores, strict=True)
    ]


def _shift(first: Linear, second: Linear) -> Cores:
    """Return the bias of two layers; empty if it is zero, to start as a constructor makes it."""
    terms: list[Any] = []
    if first.bias:
        inner = State(tuple(_double(first, "bias")))
        terms.append(Term(Apply(tuple(_double(second, "weight")), inner)))
    if second.bias:
        terms.append(Term(State(tuple(_double(second, "bias")))))
    if not terms:
        return ()
    cores, _ = compress_direct(tuple(terms), None, ROUNDING)
    return () if any(not core.any() for core in cores) else cores


def _shift_of_readout(first: Linear, second: Readout) -> np.ndarray:
    """Return the bias (num_outputs,) of a layer and a readout."""
    total = np.zeros(second.num_outputs)
    if first.bias:
        twin = duplicate(second, lambda array: to_numpy(array).astype(np.result_type(array, float)))
        total = twin.apply(tuple(_double(first, "bias")))[0]
        return total
    return total + to_numpy(second.params["bias"])
