"""widen: larger physical dimensions of the states between the layers."""

from collections.abc import Sequence
from typing import Any

from autoray import do

from ..arrays.backend import Array
from ..chains.dims import check_dims, check_positive
from ..layers.copies import reconstruct
from ..layers.layer import Layer
from ..layers.readouts import Expectation, Head
from ..layers.signature import parameters
from ..nonlinear.block_map import BlockMap
from ..nonlinear.gated import Gated
from ..nonlinear.product_map import ProductMap
from .axes import axes_of, draws, padded
from .edges import Dims, Edges, check_gauge, check_zeros
from .where import Places, check_frozen, check_model, chosen, rebuilt


def widen(
    model: Layer, phys_dims: int | Sequence[int], where: Places = None, seed: int = 0
) -> Layer:
    r"""Return the same function with larger physical dimensions of hidden states.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    phys_dims : int or sequence of int
        New dimension of every site, or of each.
    where : str, callable or sequence of them, optional
        Dotted paths of layers whose outputs widen, or functions that return such layers, given the
        model. By default all states that are neither the input nor the output of the model.
    seed : int
        Of the new entries.

    Returns
    -------
    Layer
        A new model that shares no array with the given one. Old entries come first along every
        axis.

    Raises
    ------
    TypeError, ValueError
        If there are no such states or only those outside, a dimension would shrink, a layer maps 0
        to something else, or the shape of a frozen array would change.

    Notes
    -----
    What belongs together widens together: the outgoing index of one layer and the incoming one of
    the next, and all between; with a residual also what is before and behind it.

    New outgoing channels start at zero, so they are zero in every state, and what comes in from
    them is weighed by random numbers of the size of the old ones: the gradient of those zeros is
    not zero. Only in a bilinear :class:`ftnn.nonlinear.Gated`, without its offset, one factor
    starts at random numbers, which is the same function where that factor is not truncated.

    Means over the entries of a core or of the vector, by which norms and functions of cores scale,
    are taken over the old number of entries (``mean_dims``): zeros would make them smaller.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims, hidden = (3, 3, 3), (4, 4, 4)
    >>> model = ftnn.Sequential(
    ...     ftnn.Linear(dims, hidden, 2, 9), ftnn.nonlinear.KAN(hidden), ftnn.Readout(hidden, 4, 3)
    ... )
    >>> wider = ftnn.growth.widen(model, 6)
    >>> wider.layers[1]
    KAN((6, 6, 6), mean_dims=(4, 4, 4))
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 27)), dims)
    >>> bool(np.allclose(wider(x), model(x)))
    True
    """
    check_model(model)
    edges = Edges(model)
    new = _new_dims(model, edges, phys_dims, where)
    count = [seed]

    def change(path: str, layer: Layer, children: dict[str, Layer]) -> Layer | None:
        before, behind = edges.before[path], edges.behind.get(path)
        if before not in new and behind not in new:
            return None
        count[0] += 1
        if children:
            return reconstruct(layer, children, fill=_filler(layer, count[0]))
        if before in new and before == behind:
            check_zeros(path, layer)
            check_gauge(model, path, layer)
        options = _options(path, layer, edges.dims[before], new.get(before), new.get(behind))
        result = reconstruct(layer, children, options, _filler(layer, count[0]))
        check_frozen(path, layer, result)
        return result

    return rebuilt(model, change)


def _new_dims(
    model: Layer, edges: Edges, phys_dims: int | Sequence[int], where: Places
) -> dict[int | None, Dims]:
    """Return the new dimensions of the groups of edges that widen."""
    outside = {edges.first, edges.last}
    if where is None:
        groups = sorted({*edges.before.values(), *edges.behind.values()} - outside)
        if not groups:
            raise ValueError(
                "the model has no hidden states, only its input and its output; widen between two "
                "layers with dimensions of their own"
            )
    else:
        groups = [_group(edges, path, layer) for path, layer in _named(model, where)]
    new: dict[int | None, Dims] = {}
    for group in groups:
        if group not in edges.dims:
            raise ValueError("where names states of any dimensions; name a layer that has some")
        old = edges.dims[group]
        new[group] = _checked(phys_dims, old)
    return new


def _named(model: Layer, where: Places) -> list[tuple[str, Layer]]:
    """Return the layers that are named, without those inside them."""
    places = [where] if isinstance(where, str) or callable(where) else where
    return [
        next(iter(chosen(model, place).items())) for place in places or chosen(model, places) or ()
    ]


def _group(edges: Edges, path: str, layer: Layer) -> int:
    """Return the group of the output of a layer, or raise ``ValueError`` if it cannot widen."""
    if isinstance(layer, Head) or path not in edges.behind:
        raise ValueError(
            f"where is {path!r}, a {type(layer).__name__}, whose outputs have no sites; name a "
            "layer that returns states"
        )
    group = edges.behind[path]
    for side, edge in (("input", edges.first), ("output", edges.last)):
        if group == edge:
            raise ValueError(
                f"where is {path!r}, whose output has the dimensions of the {side} of the model; "
                f"put a layer between it and the {side}, or name another one"
            )
    return group


def _checked(phys_dims: int | Sequence[int], old: Dims) -> Dims:
    """Return the new dimensions of states, or raise an error unless they are larger."""
    if isinstance(phys_dims, Sequence):
        new = check_dims(phys_dims, "phys_dims")
    else:
        check_positive(phys_dims, "phys_dims")
        new = (int(phys_dims),) * len(old)
    if len(new) != len(old):
        raise ValueError(
            f"phys_dims has {len(new)} sites, but the states of dimensions {old} have {len(old)}; "
            "give one number, or name layers of that many sites in where"
        )
    if any(after < before for before, after in zip(old, new, strict=True)):
        raise ValueError(
            f"phys_dims is {phys_dims}, but there are states of dimensions {old} already, which "
            "cannot shrink; give larger ones, or name other layers in where"
        )
    return new


def _options(
    path: str, layer: Layer, old: Dims, before: Dims | None, behind: Dims | None
) -> dict[str, Any]:
    """Return the arguments of a layer that change with the dimensions of its input and output."""
    names = {parameter.name for parameter in parameters(type(layer))}
    options: dict[str, Any] = {}
    if before is not None:
        if isinstance(layer, (ProductMap, BlockMap)):
            raise TypeError(
                f"the input of {type(layer).__name__} {path!r} would widen, whose scale depends on "
                "the number of channels; name other layers in where"
            )
        for name in names & {"in_dims", "phys_dims"}:
            if getattr(layer, name) is not None:
                options[name] = before
        if "mean_dims" in names:
            options["mean_dims"] = getattr(layer, "mean_dims", None) or old
    if behind is not None and "out_dims" in names:
        options["out_dims"] = behind
    if behind is not None and "out_dim" in names:
        if len(set(behind)) > 1:
            raise ValueError(
                f"phys_dims is {behind}, but {type(layer).__name__} {path!r} has one dimension for "
                "all sites; give one number"
            )
        options["out_dim"] = behind[0]
    if "out_dims" in names and "out_dims" not in options and layer.out_dims is not None:
        options["out_dims"] = layer.out_dims  # of a KAN they follow phys_dims otherwise
    return options


def _filler(layer: Layer, seed: int) -> Any:
    """Return what fills the arrays of a layer."""
    draw = draws(seed)

    def fill(name: str, old: Array | None, array: Array) -> Array:
        assert old is not None
        roles = axes_of(layer, name, len(old.shape))
        if isinstance(layer, Expectation):
            return _sandwich(layer, old, array, draw)
        if isinstance(layer, Gated) and not layer.offset and name.startswith("A."):
            roles = tuple("" if role == "out" else role for role in roles)
        return padded(old, array, roles, draw)

    return fill


def _sandwich(layer: Expectation, old: Array, new: Array, draw: Any) -> Array:
    """Widen both physical indices of a core (left, copies * phys, phys, right)."""

    def apart(array: Array) -> Array:
        l, both, p, r = array.shape
        return do("reshape", array, (l, both // p, p, p, r))

    result = padded(apart(old), apart(new), ("left", "", "in", "in", "right"), draw)
    return do("reshape", result, tuple(new.shape))
