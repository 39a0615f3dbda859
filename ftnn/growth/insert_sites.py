"""insert_sites: new cores between those of a model, also at the ends."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array, as_like, to_numpy
from ..chains.bonds import MaxBond
from ..chains.dims import check_dims
from ..layers.coarsen import Coarsen
from ..layers.copies import reconstruct
from ..layers.layer import Layer
from ..layers.readouts import Head, Readout
from ..layers.signature import arguments
from ..nonlinear.block_map import BlockMap
from ..nonlinear.feature_map import FeatureMap
from ..nonlinear.gated import Gated
from ..nonlinear.kan import KAN
from ..nonlinear.normalization import CoreNorm, LayerNorm, RMSNorm
from ..nonlinear.pointwise import Pointwise
from ..nonlinear.product_map import ProductMap
from .axes import NOISE, axes_of, draws, padded
from .deepen import NEW
from .edges import Dims, Edges, check_gauge, check_zeros
from .where import check_frozen, check_model, rebuilt

_FIXED = (Coarsen, BlockMap, FeatureMap, ProductMap)
_BONDS = ("bond_dim", "max_bond", "inner_bond", "bias_bond")
_CHAINS = ("weight", "A", "B", "bias", "gain", "shift", "linear", "curve", "knots", "omega")
_ODD = ("tanh", "sin")


def insert_sites(model: Layer, position: int, dims: int | Sequence[int], seed: int = 0) -> Layer:
    r"""Return a model of a longer chain, the same function of states with a constant on new sites.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    position : int
        Old site that the new ones come before, 0 to L; L is the end.
    dims : int or sequence of int
        Physical dimension of a new site, or of several, in every layer.
    seed : int
        Of the new entries.

    Returns
    -------
    Layer
        A new model that shares no array with the given one. The old cores are intact, where they
        stand (:func:`inserted_paths`); at the ends they may get new bond channels.

    Raises
    ------
    TypeError, ValueError
        If there is no such position, a layer cannot be made longer, or the shape of a frozen array
        would change.

    Notes
    -----
    *Which inputs.* With :math:`e = (1, 0, \ldots, 0)` on every new site, as a constant channel of
    features is for a blank one,

    .. math:: f'(x \otimes e) = f(x) \otimes e, \qquad f'(x \otimes e) = f(x)

    for states and for dense outputs. What a core does with other vectors is what training makes of
    it: a weight starts as the identity on a new site, a bias and the shift of a norm with e, a
    readout takes the first channel and small random parts of the others. Means over entries count
    one channel of a new site (``mean_dims``); :class:`ftnn.nonlinear.Pointwise` skips it; a
    :class:`ftnn.nonlinear.KAN` starts with the identity.

    *Bonds.* A bond for each cut is repeated for the new one. A single bond for all cuts also holds
    for those at new ends, with entries as those of :func:`inflate`.

    *Gauge.* Test matrices of a new site are ones on the first channel: the other cores stay in the
    gauge that they were in. At the right end the sign of the two last cores is that of the whole
    vector under the sketch, with which only odd functions of cores commute.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims = (3, 3, 3)
    >>> model = ftnn.Sequential(
    ...     ftnn.Linear(dims, dims, 2, 9), ftnn.nonlinear.KAN(dims), ftnn.Readout(dims, 4, 3)
    ... )
    >>> longer = ftnn.growth.insert_sites(model, 1, dims=2)
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 27)), dims)
    >>> constant = np.eye(3)[:, None, :] * np.eye(2)[0][:, None]  # (left, phys, right)
    >>> z = ftnn.MPS([x.cores[0], np.stack([constant] * 5), *x.cores[1:]])
    >>> z.phys_dims, bool(np.allclose(longer(z), model(x)))
    ((3, 2, 3, 3), True)
    """
    check_model(model)
    edges = Edges(model)
    sites = {len(known) for known in edges.dims.values()}
    for path, layer in model.walk():
        _check(path.rstrip("."), layer)
    if len(sites) != 1:
        raise ValueError(
            "the model has no layer with dimensions, so it takes chains of any length already"
        )
    L = sites.pop()
    if isinstance(position, bool) or position not in range(L + 1):
        raise ValueError(
            f"position is {position!r}, expected an old site that new ones come before, 0 to {L}; "
            f"{L} is the end"
        )
    new = check_dims([dims] if isinstance(dims, (int, np.integer)) else dims, "dims")
    count = [seed]

    def change(path: str, layer: Layer, children: dict[str, Layer]) -> Layer:
        count[0] += 1
        _check_signs(path, layer, position == L)
        check_gauge(model, path, layer)
        insertion = _Insertion(layer, position, new, count[0])
        own = edges.dims.get(edges.before[path])
        result = reconstruct(
            layer, children, insertion.options(own), insertion.fill, insertion.origin
        )
        check_frozen(path, layer, result, insertion.origin)
        return result

    return rebuilt(model, change)


def inserted_paths(model: Layer, position: int, count: int = 1) -> dict[str, str]:
    """Return where the parameters of ``insert_sites(model, position, ...)`` come from.

    Parameters
    ----------
    model : Layer
        Before.
    position : int
    count : int
        Number of new sites.

    Returns
    -------
    dict of str to str
        Names in the new model to those in the old one, where they differ, as
        :func:`ftnn.layers.surgery.parameter_map` takes them.

    Examples
    --------
    >>> import ftnn
    >>> ftnn.growth.inserted_paths(ftnn.Readout((3, 3), 4, 3), position=1)
    {'weight.1': '(new)', 'weight.2': 'weight.1'}
    """
    names: dict[str, str] = {}
    for path, layer in model.walk():
        prefixes = dict.fromkeys(n.partition(".")[0] for n in layer.params if _is_chain(n))
        for prefix in prefixes:
            L = sum(name.startswith(prefix + ".") for name in layer.params)
            for k in range(position, L + count):
                old = f"{path}{prefix}.{k - count}" if k >= position + count else NEW
                names[f"{path}{prefix}.{k}"] = old
    return names


class _Insertion:
    """How one layer gets new sites."""

    def __init__(self, layer: Layer, position: int, dims: Dims, seed: int):
        self.layer, self.position, self.dims = layer, position, dims
        self.draw = draws(seed)

    def origin(self, name: str) -> str | None:
        """Return the old name of an array, None for one of a new site."""
        prefix, _, site = name.partition(".")
        if not _is_chain(name) or int(site) < self.position:
            return name
        k = int(site) - len(self.dims)
        return f"{prefix}.{k}" if k >= self.position else None

    def options(self, own: Dims | None) -> dict[str, Any]:
        """Return the arguments of the layer that change; ``own`` are the dimensions before it."""
        layer, known = self.layer, arguments(self.layer)
        options: dict[str, Any] = {}
        for name in ("in_dims", "out_dims", "phys_dims"):
            if known.get(name) is not None:
                options[name] = self._longer(known[name], self.dims)
        if isinstance(layer, KAN):
            options["out_dims"] = self._longer(layer.out_dims, self.dims)
        for name in _BONDS:
            if isinstance(known.get(name), tuple):
                options[name] = self._longer_bonds(known[name])
        ones = (1,) * len(self.dims)
        if isinstance(layer, (RMSNorm, LayerNorm)):
            if own is None:
                raise ValueError(
                    f"the dimensions before a {type(layer).__name__} are not known; put it behind "
                    "a layer that has some"
                )
            options["mean_dims"] = self._longer(layer.mean_dims or own, ones)
        elif known.get("mean_dims") is not None:
            options["mean_dims"] = self._longer(known["mean_dims"], self.dims)
        if isinstance(layer, Pointwise):
            old = [k + len(self.dims) * (k >= self.position) for k in layer.skip]
            options["skip"] = (*old, *range(self.position, self.position + len(self.dims)))
        if isinstance(layer, CoreNorm) and own is not None:  # the same product over all cores
            options["scale"] = layer.scale ** (len(own) / (len(own) + len(self.dims)))
        if isinstance(layer, Head):
            center = layer.center + len(self.dims) * (layer.center >= self.position)
            middle = (len(layer.in_dims) + len(self.dims)) // 2
            options["output_site"] = None if center == middle else center
        return options

    def fill(self, name: str, old: Array | None, new: Array) -> Array:
        """Return the values of an array of another shape, or of a new site."""
        arrays = {**self.layer.params, **self.layer.buffers}
        prefix = name.partition(".")[0]
        if old is None:
            if prefix == "omega" and self._is_old(name):  # of the site that was the last one
                return as_like(to_numpy(new), next(iter(arrays.values())))
            like = next(iter(arrays.values()))
            old = as_like(self._core(name, tuple(new.shape), new), like)
        noise = NOISE * min(1.0, 2.0 / (len(self.layer.in_dims or ()) + len(self.dims)))
        roles = axes_of(self.layer, name, len(old.shape))
        return padded(old, new, roles, self.draw, noise)

    def _is_old(self, name: str) -> bool:
        """Return whether an array is that of an old site, which had none."""
        site = int(name.partition(".")[2])
        return not self.position <= site < self.position + len(self.dims)

    def _core(self, name: str, shape: tuple[int, ...], new: Array) -> np.ndarray:
        """Return the array of a new site that leaves the function unchanged."""
        prefix = name.partition(".")[0]
        if prefix in ("curve", "knots"):
            return np.zeros(shape) if prefix == "curve" else to_numpy(new)
        if prefix == "linear":
            return np.eye(shape[0], shape[1])
        if prefix == "omega":
            omega = to_numpy(new).copy()
            omega[:, 0] = 1.0
            return omega
        bond = self._bond(prefix)
        if prefix in ("bias", "gain", "shift"):
            vector = np.ones(shape[2]) if prefix == "gain" else np.eye(shape[2])[0]
            return np.eye(bond)[None, :, None, :] * vector[:, None]
        if not isinstance(self.layer, Readout):
            matrix = np.eye(shape[2])
            if isinstance(self.layer, Gated) and not self.layer.offset and prefix == "A":
                # times zeros of the other factor, which would have no gradient if both were zero
                matrix[1:, 0] = self.draw((shape[2] - 1,), np.zeros(0))
            return np.eye(bond)[:, None, None, :] * matrix[:, :, None]
        core = 0.1 * self.draw((bond, 1, shape[2], bond), np.zeros(0)) / np.sqrt(bond * shape[2])
        core[:, 0, 0] = np.eye(bond)
        return core

    def _bond(self, prefix: str) -> int:
        """Return the bond of an old chain at the position, 1 at its ends."""
        core = self.layer.params.get(f"{prefix}.{self.position}")
        if core is None:
            return 1
        return int(core.shape[1 if prefix in ("bias", "gain", "shift") else 0])

    def _longer(self, values: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
        return (*values[: self.position], *new, *values[self.position :])

    def _longer_bonds(self, bonds: MaxBond) -> MaxBond:
        """Repeat the bond of the cut at the position, at the ends that of the next one."""
        if isinstance(bonds, int) or not bonds:
            return bonds or 1
        cut = min(max(self.position - 1, 0), len(bonds) - 1)
        more = (bonds[cut],) * len(self.dims)
        return (*bonds[:cut], *more, *bonds[cut:])


def _is_chain(name: str) -> bool:
    """Return whether an array is one of a chain of arrays, one a site."""
    prefix, _, site = name.partition(".")
    return prefix in _CHAINS and site.isdigit()


def _check(path: str, layer: Layer) -> None:
    """Raise an error for a layer that cannot get a site with a constant."""
    kind, reason = f"{type(layer).__name__} {path!r}", ""
    if isinstance(layer, _FIXED):
        raise TypeError(
            f"{kind} maps blocks of sites, or sites of one dimension, and cannot get others; "
            "insert sites into the layers behind it"
        )
    check_zeros(path, layer)
    if isinstance(layer, KAN) and layer.share:
        reason = "shares its functions between sites, new ones too; make it with share=False"
    if isinstance(layer, Pointwise) and not layer.normalize:
        reason = "acts on entries whose scale depends on the number of sites; normalize them"
    if isinstance(layer, CoreNorm) and layer.product != "keep":
        reason = "drops the norms of cores, also those of new ones; use product='keep'"
    if reason:
        raise ValueError(f"{kind} {reason}")


def _check_signs(path: str, layer: Layer, at_end: bool) -> None:
    """Raise ``ValueError`` for a function of cores that does not commute with their signs."""
    if not at_end:
        return
    odd = not isinstance(layer, Pointwise) or layer.fn in _ODD
    if not odd or (isinstance(layer, KAN) and not layer.odd):
        raise ValueError(
            f"{type(layer).__name__} {path!r} is not an odd function, and the sign of the last "
            "core is not fixed; insert sites at another position, such as 0"
        )
