"""prune: cut the bond directions of weights that matter least for data."""

from dataclasses import dataclass

import numpy as np

from ..arrays.backend import Array, as_like, to_numpy
from ..chains.bonds import check_tolerance
from ..chains.states import MPS
from ..chains.terms import Cores
from ..layers.copies import duplicate, reconstruct
from ..layers.hooks import intercepted
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.readouts import Readout
from ..layers.summary import aligned
from ..nonlinear.gated import Gated
from .weighed import Bonds, WeighedOperator
from .where import Places, check_model, chosen, rebuilt

KINDS = (Linear, Readout, Gated)
"""Layers whose weights have bonds that can be cut one by one."""
STEPS = 12
"""Number of bisections of the error for a number of parameters."""


@dataclass(frozen=True)
class PrunedBond:
    """What became of one bond.

    Attributes
    ----------
    path, operator : str
        Layer, and name of its operator: "weight", or "A" and "B" of a Gated.
    cut : int
        1 to L - 1, left of that site.
    before, after : int
        Bond dimensions.
    discarded : float
        Squared error of the outputs of the operator on the data, relative to their squared size,
        by this cut alone.
    """

    path: str
    operator: str
    cut: int
    before: int
    after: int
    discarded: float


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned model, and what was cut.

    Attributes
    ----------
    model : Layer
    rows : tuple of PrunedBond
    errors : dict of str to float
        Relative error of the outputs of every operator on the data, given the inputs of the old
        model: the root of the sum of squares over all samples and entries.
    """

    model: Layer
    rows: tuple[PrunedBond, ...]
    errors: dict[str, float]

    def table(self) -> str:
        """Return the rows as text."""
        lines = [("path", "weight", "cut", "before", "after", "discarded")]
        lines += [
            (
                r.path or "-",
                r.operator,
                str(r.cut),
                str(r.before),
                str(r.after),
                f"{r.discarded:.1e}",
            )
            for r in self.rows
        ]
        return "\n".join(aligned(lines, 2))


def prune(
    model: Layer,
    data: MPS,
    rtol: float | None = None,
    params: int | None = None,
    where: Places = None,
) -> Pruned:
    r"""Cut the bonds of weights to the directions that matter for data.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    data : MPS
        Inputs of the model, a few dozen or hundred; on the backend and in the dtype of the model.
    rtol : float, optional
        Relative error of the outputs of every weight on the data: a bond is as small as it allows.
    params : int, optional
        Largest number of parameters of the model instead; the error, the same for all weights, is
        as small as it allows.
    where : str, callable or sequence of them, optional
        Layers to prune, with all inside them; by default every :class:`ftnn.Linear`,
        :class:`ftnn.Readout` and :class:`ftnn.nonlinear.Gated` of the model.

    Returns
    -------
    Pruned
        Its ``model`` shares no array with the given one.

    Raises
    ------
    TypeError, ValueError
        Unless one of ``rtol`` and ``params`` is given, if there is nothing to prune or too little,
        or a layer has frozen arrays.

    Notes
    -----
    A bond is cut in the metric of the outputs on the data (:mod:`ftnn.growth.metric`): a direction
    goes if what it carries is small *for these inputs*, however large its singular value. At every
    cut the error is at most that of dropping the smallest singular values.

    The inputs of every layer are those of the old model. The errors of layers add up, and a
    truncation or a nonlinearity behind may enlarge them: look at the outputs of the model. Bonds of
    the states (``max_bond``) and of biases are unchanged.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims = (3, 3, 3, 3)
    >>> model = ftnn.Sequential(ftnn.Linear(dims, dims, 6, 9), ftnn.Readout(dims, 4, 6))
    >>> dense = np.random.default_rng(0).standard_normal((20, 81))
    >>> x = ftnn.MPS.from_dense(dense, dims, max_bond=2)
    >>> pruned = ftnn.growth.prune(model, x, params=500)
    >>> model.num_params(), pruned.model.num_params() <= 500, max(pruned.errors.values()) < 0.6
    (1056, True, True)
    """
    check_model(model)
    if not isinstance(data, MPS):
        raise TypeError(f"data is a {type(data).__name__}, expected an ftnn.MPS of inputs")
    if (rtol is None) == (params is None):
        raise ValueError(
            f"rtol is {rtol} and params is {params}; give one of them, the error or the size"
        )
    operators = _operators(model, data, where)
    if rtol is not None:
        check_tolerance(rtol)
        return _pruned(model, operators, rtol)
    least = _count(model, {key: (1,) * (len(op.cores) - 1) for key, op in operators.items()})
    if not isinstance(params, (int, np.integer)) or isinstance(params, bool) or params < least:
        raise ValueError(
            f"params is {params!r}, expected an integer of at least {least:,}, what is left of the "
            f"{model.num_params():,} with bonds of 1; give more, or fewer or smaller layers"
        )
    if model.num_params() <= params:
        return _pruned(model, operators, 0.0)
    low, high = -8.0, 0.0  # powers of ten of the error
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        bonds = {key: op.found(10.0**middle).bonds for key, op in operators.items()}
        fits = _count(model, bonds) <= params
        low, high = (low, middle) if fits else (middle, high)
    found = _pruned(model, operators, 10.0**high)
    if found.model.num_params() > params:  # at an error of one: what the metric takes for nothing
        return _pruned(model, operators, 1.0)
    return found


# ---- a model -------------------------------------------------------------------------------------

Key = tuple[str, str]
"""Path of a layer, and name of its operator."""


def _operators(model: Layer, data: MPS, where: Places) -> dict[Key, WeighedOperator]:
    """Return the operators to prune, with their inputs."""
    layers = {path: layer for path, layer in chosen(model, where).items() if _has_bonds(layer)}
    if not layers:
        what = "the model" if where is None else f"what where names, {where!r},"
        names = ", ".join(kind.__name__ for kind in KINDS)
        raise ValueError(f"{what} has no {names} of several sites; there is nothing to prune")
    for path, layer in layers.items():
        if layer.frozen:
            raise ValueError(
                f"{type(layer).__name__} {path!r} has frozen arrays, which cannot be cut; thaw "
                "them first, or name other layers in where"
            )
    twin, found = duplicate(model, _double), {}

    def record(path: str, layer: Layer, inputs: Cores) -> object:
        if path in layers:
            parts = [_unit(core) for core in inputs]
            logs = np.sum([log for _, log in parts], axis=0)
            for name, cores in layer.operators().items():
                found[path, name] = WeighedOperator(list(cores), [core for core, _ in parts], logs)
        return type(layer).apply(layer, inputs)

    with intercepted(twin, record):
        twin.eval().apply(tuple(_double(core) for core in data.cores))
    return found


def _has_bonds(layer: Layer) -> bool:
    return isinstance(layer, KINDS) and len(layer.in_dims) > 1


def _double(array: Array) -> np.ndarray:
    host = to_numpy(array)
    return host.astype(np.result_type(host, np.float64))


def _unit(core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide a core (batch, ...) by its largest moduli; return their logarithms, too."""
    top = np.abs(core).reshape(len(core), -1).max(axis=1)
    top = np.where(top > 0, top, 1.0)
    return core / top.reshape(-1, 1, 1, 1), np.log(top)


def _pruned(model: Layer, operators: dict[Key, WeighedOperator], rtol: float) -> Pruned:
    """Cut every operator to an error, and make the model anew."""
    found = {key: op.found(rtol) for key, op in operators.items()}
    bonds = _common({key: part.bonds for key, part in found.items()})
    for key, part in found.items():
        if part.bonds != bonds[key[0]]:  # both weights of a layer have the same bonds
            found[key] = operators[key].found(rtol, bonds[key[0]])

    def change(path: str, layer: Layer, children: dict[str, Layer]) -> Layer | None:
        if path not in bonds:
            return None
        new = reconstruct(layer, children, {"bond_dim": bonds[path]})
        for (_, name), part in ((key, part) for key, part in found.items() if key[0] == path):
            for k, core in enumerate(part.cores):
                old = layer.params[f"{name}.{k}"]
                new.params[f"{name}.{k}"] = as_like(np.ascontiguousarray(core), old)
        return new

    rows = [
        PrunedBond(path, name, k + 1, core.shape[3], part.bonds[k], part.discarded[k])
        for (path, name), part in found.items()
        for k, core in enumerate(operators[path, name].cores[:-1])
    ]
    errors = {
        f"{path}.{name}".lstrip("."): operators[path, name].error(part.cores)
        for (path, name), part in found.items()
    }
    return Pruned(rebuilt(model, change), tuple(rows), errors)


def _common(bonds: dict[Key, Bonds]) -> dict[str, Bonds]:
    """Return the bonds of every layer: at every cut the largest of its operators."""
    common: dict[str, Bonds] = {}
    for (path, _), own in bonds.items():
        other = common.get(path, own)
        common[path] = tuple(max(pair) for pair in zip(own, other, strict=True))
    return common


def _count(model: Layer, bonds: dict[Key, Bonds]) -> int:
    """Count the parameters of a model with these bonds of its operators."""
    common, total = _common(bonds), model.num_params()
    known = {path.rstrip("."): layer for path, layer in model.walk()}
    for path, name in bonds:
        edges = (1, *common[path], 1)
        for k, core in enumerate(known[path].operators()[name]):
            total -= int(np.prod(core.shape))
            total += edges[k] * int(core.shape[1]) * int(core.shape[2]) * edges[k + 1]
    return total
