"""An operator with its inputs on data: its bonds are cut in the metric of its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metric import absorb, cut_to, form, scaled, smallest

Bonds = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CutOperator:
    """An operator that was cut.

    Attributes
    ----------
    cores : list of array (left, out, in, right)
    discarded : list of float
        Squared relative error of every cut by itself, on the data.
    """

    cores: list[np.ndarray]
    discarded: list[float]

    @property
    def bonds(self) -> Bonds:
        """Bonds of the L - 1 cuts."""
        return tuple(int(core.shape[3]) for core in self.cores[:-1])


@dataclass(frozen=True, eq=False)
class WeighedOperator:
    """An operator and its inputs, on NumPy in double precision.

    Attributes
    ----------
    cores : list of array (left, out, in, right)
    inputs : list of array (batch, left, in, right)
        Cores whose largest modulus is one, or zero.
    logs : array (batch,)
        Logarithm of what was divided out of them.
    """

    cores: list[np.ndarray]
    inputs: list[np.ndarray]
    logs: np.ndarray

    def found(self, rtol: float, bonds: Bonds | None = None) -> CutOperator:
        """Cut all bonds, from left to right, to an error or to given bonds.

        Parameters
        ----------
        rtol : float
            Relative error of the outputs. It is shared by the cuts as if their errors were
            orthogonal, and the shares are made smaller until the whole is within.
        bonds : tuple of int, optional
            Of the L - 1 cuts, instead of an error.
        """
        share = rtol / max(len(self.cores) - 1, 1) ** 0.5
        while True:
            found = self._swept(share, bonds)
            error = self.error(found.cores)
            if bonds is not None or error <= max(rtol, 1e-9) or share == 0.0 or rtol >= 1.0:
                return found
            share = 0.9 * share * rtol / error if share > 1e-9 else 0.0

    def _swept(self, share: float, bonds: Bonds | None) -> CutOperator:
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
        return CutOperator([*out, cores[-1]], discarded)

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
