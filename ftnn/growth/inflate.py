"""inflate: larger bonds of weights and of activations."""

from typing import Any

from ..arrays.backend import Array
from ..chains.bonds import MaxBond, bond_at, check_bonds
from ..layers.copies import reconstruct
from ..layers.layer import Layer
from ..layers.signature import arguments
from .axes import NOISE, axes_of, draws, padded
from .where import Places, check_frozen, chosen, rebuilt

_WEIGHT = "bond_dim"
_CONSTANT = ("bias_bond",)
_ACTIVATION = ("max_bond", "inner_bond")


def inflate(
    model: Layer,
    bond_dim: MaxBond | None = None,
    max_bond: MaxBond | None = None,
    where: Places = None,
    bias_bond: MaxBond | None = None,
    seed: int = 0,
) -> Layer:
    r"""Return the same function with larger bonds.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    bond_dim : int or sequence of int, optional
        New bond dimension of weights: of :class:`ftnn.Linear`, :class:`ftnn.Readout`,
        :class:`ftnn.Expectation`, :class:`ftnn.Coarsen`, both weights of a
        :class:`ftnn.nonlinear.Gated`, and the bonds within a :class:`ftnn.nonlinear.BlockMap`.
        The gain and shift of a :class:`ftnn.nonlinear.LayerNorm` that are product states stay so
        unless the layer is named in ``where``.
    max_bond : int or sequence of int, optional
        New bond dimension of the outputs of layers that truncate, and of the factors in a
        :class:`ftnn.nonlinear.Gated`.
    where : str, callable or sequence of them, optional
        Dotted paths of layers, ``"2.layer"``, or functions that return them, given the model; what
        is inside of them is meant too. By default all layers.
    bias_bond : int or sequence of int, optional
        New bond dimension of the biases of :class:`ftnn.Linear`; by default they follow
        ``bond_dim``, unless they are product states.
    seed : int
        Of the new entries.

    Returns
    -------
    Layer
        A new model that shares no array with the given one. Old entries come first along every
        bond, as :func:`ftnn.layers.surgery.parameter_map` expects.

    Raises
    ------
    TypeError, ValueError
        If no bond is given, a layer has a larger one already or none at all, or the shape of a
        frozen array would change.

    Notes
    -----
    *Weights.* With bond channels (old, new) every core becomes

    .. math:: \begin{pmatrix} A & N \\ 0 & a \mathbb{1} + N \end{pmatrix}

    with small random N and the mean a of the diagonal blocks of A: paths that leave the old
    channels do not come back, so the function is the same; and the gradient of the zeros, N on one
    side and an old channel on the other, is not zero. Zeros on both sides of a bond would be a
    saddle point.

    *Activations.* A layer keeps the rows of its test matrices and gets more, so its gauge is the
    same. Where nothing was truncated, the new directions are zeros and the function is
    unchanged. Where a larger bond was cut, less of it is lost now, and the function changes by what
    is no longer lost; a random sketch guarantees this for no single sample, only at the last cut,
    whose old directions all stay.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims = (3, 3, 3, 3)
    >>> model = ftnn.Sequential(ftnn.Linear(dims, dims, 2, 9), ftnn.Readout(dims, 4, 3))
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 81)), dims)
    >>> larger = ftnn.growth.inflate(model, bond_dim=6)
    >>> larger.layers[0], model.num_params(), larger.num_params()
    (Linear((3, 3, 3, 3) -> (3, 3, 3, 3), bond_dim=6, max_bond=9), 273, 1056)
    >>> bool(np.allclose(larger(x), model(x)))
    True
    """
    layers = chosen(model, where)
    if bond_dim is None and max_bond is None and bias_bond is None:
        raise ValueError(
            "none of bond_dim, max_bond and bias_bond is given; give the bonds that are to grow"
        )
    asked = {"bond_dim": bond_dim, "max_bond": max_bond, "bias_bond": bias_bond}
    new = {path: _options(path, layer, asked, where) for path, layer in layers.items()}
    for argument, bond in asked.items():
        if bond is not None and not any(argument in options for options in new.values()):
            what = "the model" if where is None else f"what where names, {where!r},"
            kinds = ", ".join(sorted({type(layer).__name__ for layer in layers.values()}))
            raise ValueError(
                f"{argument} is {bond}, but {what} has no such bond, only {kinds}; leave it out, "
                "or name other layers in where"
            )
    count = [seed]

    def change(path: str, layer: Layer, children: dict[str, Layer]) -> Layer | None:
        options = new.get(path)
        if not options:
            return None
        count[0] += 1
        return inflated(path, layer, children, options, count[0])

    return rebuilt(model, change)


def inflated(
    path: str, layer: Layer, children: dict[str, Layer], options: dict[str, Any], seed: int
) -> Layer:
    """Make one layer anew, its arrays padded to the shapes of its new options."""
    chain = len(layer.in_dims or ())
    noise = NOISE * min(1.0, 2.0 / max(chain, 1))

    draw = draws(seed)

    def fill(name: str, old: Array | None, array: Array) -> Array:
        if old is None:  # a test matrix of a layer that had none
            raise ValueError(f"array {name!r} of {path!r} is new; this layer cannot grow")
        return padded(old, array, axes_of(layer, name, len(old.shape)), draw, noise)

    result = reconstruct(layer, children, options, fill)
    check_frozen(path, layer, result)
    return result


def _options(path: str, layer: Layer, asked: dict[str, Any], where: Places) -> dict[str, Any]:
    """Return the arguments of a layer that change."""
    own, options = arguments(layer) if _has_bonds(layer) else {}, {}
    for argument, bond in asked.items():
        if bond is None or own.get(argument) is None:
            continue
        constant = argument == "bond_dim" and "affine" in own  # of a gain and a shift
        if constant and where is None and own[argument] == 1:
            continue
        if constant and not own["affine"]:
            continue
        if argument == "bias_bond" and not own.get("bias", True):
            continue
        options[argument] = _larger(path, layer, argument, own[argument], bond)
    if "bond_dim" in options and asked["bias_bond"] is None and own.get("bias_bond", 1) != 1:
        options["bias_bond"] = _at_least(layer, own["bias_bond"], options["bond_dim"])
    if "max_bond" in options and own.get("inner_bond") is not None:
        options["inner_bond"] = _at_least(layer, own["inner_bond"], options["max_bond"])
    return options


def _has_bonds(layer: Layer) -> bool:
    return any(getattr(layer, name, None) is not None for name in ("bond_dim", "max_bond"))


def _larger(path: str, layer: Layer, argument: str, old: MaxBond, new: MaxBond) -> MaxBond:
    """Return the new bond, or raise ``ValueError`` unless it is at least as large at every cut."""
    sites = len(layer.out_dims or layer.in_dims or ())
    if isinstance(old, int) and isinstance(new, int) and not isinstance(new, bool):
        checked: int | tuple[int, ...] = new
        cuts = 1
    elif sites:
        checked, cuts = check_bonds(new, sites, argument), sites - 1
    else:
        raise ValueError(
            f"{argument} is {new!r}, but {type(layer).__name__} {path!r} takes one positive integer"
        )
    for cut in range(1, cuts + 1):
        if (bond_at(checked, cut) or 1) < (bond_at(old, cut) or 1):
            raise ValueError(
                f"{argument} is {new}, but that of {type(layer).__name__} {path!r} is {old} "
                "already; give a larger one, name other layers in where, or cut it by "
                "ftnn.growth.prune"
            )
    return checked


def _at_least(layer: Layer, old: MaxBond, new: MaxBond) -> MaxBond:
    """Return the larger of two bonds at every cut."""
    if isinstance(old, int) and isinstance(new, int):
        return max(old, new)
    cuts = range(1, len(layer.out_dims or ()))
    return tuple(max(bond_at(old, cut) or 1, bond_at(new, cut) or 1) for cut in cuts)
