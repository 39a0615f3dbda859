"""prune: cut the bond directions of weights that matter least for data."""

from collections.abc import Sequence
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
from .metric import absorb, cut_to, form, scaled, smallest
from .where import Places, check_model, chosen, rebuilt

KINDS = (Linear, Readout, Gated)
"""Layers whose weights have bonds that can be cut one by one."""
STEPS = 12
"""Number of bisections of the error for a number of parameters."""

Bonds = tuple[int, ...]


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


# ---- one operator --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Found:
    """Cores of an operator that was cut, and the error of every cut."""

    cores: list[np.ndarray]
    discarded: list[float]

    @property
    def bonds(self) -> Bonds:
        return tuple(int(core.shape[3]) for core in self.cores[:-1])


@dataclass(frozen=True, eq=False)
class _Operator:
    """An operator and its inputs, on NumPy in double precision."""

    cores: list[np.ndarray]
    inputs: list[np.ndarray]
    logs: np.ndarray

    def found(self, rtol: float, bonds: Bonds | None = None) -> _Found:
        """Cut all bonds, from left to right, to an error or to given bonds.

        The error is shared by the cuts as if their errors were orthogonal, and the shares made
        smaller until the whole is within.
        """
        share = rtol / max(len(self.cores) - 1, 1) ** 0.5
        while True:
            found = self._swept(share, bonds)
            error = self.error(found.cores)
            if bonds is not None or error <= max(rtol, 1e-9) or share == 0.0 or rtol >= 1.0:
                return found
            share = 0.9 * share * rtol / error if share > 1e-9 else 0.0

    def _swept(self, share: float, bonds: Bonds | None) -> _Found:
        cores = _right_canonical(self.cores)
        rights = self._rights(cores)
        env, logs = np.ones((len(self.logs), 1, 1, 1, 1)), 2.0 * self.logs
        out: list[np.ndarray] = []
        discarded = []
        for k in range(1, len(cores)):
            l, o, i, _ = cores[k - 1].shape
            u, s, v = np.linalg.svd(cores[k - 1].reshape(l * o * i, -1), full_matrices=False)
            left = (u * np.sqrt(s)).reshape(l, o, i, -1)
            right = np.sqrt(s)[:, None] * v
            here, here_logs = scaled(absorb(env, left, self.inputs[k - 1]), logs)
            there = np.einsum(
                "pf,bftes,de->bptds", right.conj(), rights[k][0], right, optimize=True
            )
            K = form(here, there, here_logs + rights[k][1])
            cut = smallest(K, share**2) if bonds is None else cut_to(K, bonds[k - 1])
            discarded.append(cut.error)
            flat = (left.reshape(l * o * i, -1)) @ cut.left
            q, r = np.linalg.qr(flat)
            out.append(q.reshape(l, o, i, -1))
            env, logs = scaled(absorb(env, out[-1], self.inputs[k - 1]), logs)
            cores[k] = np.tensordot(r @ cut.right @ right, cores[k], 1)
        return _Found([*out, cores[-1]], discarded)

    def _rights(self, cores: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the right environments of every site, with their logarithms."""
        none = np.zeros(len(self.logs))
        found = [(np.ones((len(self.logs), 1, 1, 1, 1)), none)]
        for weight, core in zip(cores[::-1], self.inputs[::-1], strict=True):
            env, logs = found[0]
            found.insert(0, scaled(absorb(env, weight.swapaxes(0, 3), core.swapaxes(1, 3)), logs))
        return found

    def error(self, cores: list[np.ndarray]) -> float:
        """Return the relative error of the outputs with other cores."""
        both = [
            _joined(a, b, k, len(cores))
            for k, (a, b) in enumerate(zip(self.cores, cores, strict=True))
        ]
        whole, lost = (self._square(chain) for chain in (self.cores, both))
        if np.isneginf(whole):
            return 0.0
        return float(np.exp(0.5 * (lost - whole)))

    def _square(self, cores: list[np.ndarray]) -> float:
        """Return the logarithm of the sum of squares of the outputs."""
        env, logs = np.ones((len(self.logs), 1, 1, 1, 1)), 2.0 * self.logs
        for weight, core in zip(cores, self.inputs, strict=True):
            env, logs = scaled(absorb(env, weight, core), logs)
        values = np.maximum(env.reshape(-1).real, 0.0)
        total = float(np.sum(values * np.exp(logs - logs.max())))
        return float(np.log(total) + logs.max()) if total > 0 else -np.inf


def _joined(a: np.ndarray, b: np.ndarray, k: int, L: int) -> np.ndarray:
    """Return a core of the difference of two operators."""
    if L == 1:
        return a - b
    if k == 0:
        return np.concatenate([a, -b], axis=3)
    if k == L - 1:
        return np.concatenate([a, b], axis=0)
    core = np.zeros((a.shape[0] + b.shape[0], *a.shape[1:3], a.shape[3] + b.shape[3]), a.dtype)
    core[: a.shape[0], :, :, : a.shape[3]] = a
    core[a.shape[0] :, :, :, a.shape[3] :] = b
    return core


def _right_canonical(cores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the same operator, all cores but the first isometries to their left bonds."""
    out = list(cores)
    for k in range(len(out) - 1, 0, -1):
        _, o, i, r = out[k].shape
        q, rest = np.linalg.qr(out[k].reshape(len(out[k]), -1).T)
        out[k] = q.T.reshape(-1, o, i, r)
        out[k - 1] = np.tensordot(out[k - 1], rest.T, 1)
    return out


# ---- a model -------------------------------------------------------------------------------------

Key = tuple[str, str]
"""Path of a layer, and name of its operator."""


def _operators(model: Layer, data: MPS, where: Places) -> dict[Key, _Operator]:
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
                found[path, name] = _Operator(list(cores), [core for core, _ in parts], logs)
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


def _pruned(model: Layer, operators: dict[Key, _Operator], rtol: float) -> Pruned:
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
