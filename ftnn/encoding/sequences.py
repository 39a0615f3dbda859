"""Sequences to MPS: a product state with one site per step."""

from typing import Any, Self

import numpy as np

from ..arrays.backend import check_floating
from ..chains.dims import check_positive
from ..chains.states import MPS
from ..chains.terms import Cores
from .encoder import Encoder, site_vectors
from .features import check_features, count_features, expand, invert
from .scaling import (
    NORMALIZATIONS,
    extent,
    fit_statistics,
    scale_columns,
    statistics_shapes,
    unscale_columns,
)

PADDING = -1
"""Token of steps beyond the end of a sequence."""


class SequenceEncoder(Encoder):
    r"""Encoder of time series as product states with one site per step.

    The vector of a site is :math:`(1, \phi)`, a constant channel and the features of the channels
    at that step times ``scale / sqrt(channels)``.

    Parameters
    ----------
    steps : int
        Length of the sequences.
    channels : int
        Numbers per step. Data are (n, steps) for one channel, else (n, steps, channels).
    features : {"linear", "trig", "fourier", "polynomial", "spline"}
        Features of every number; see :mod:`ftnn.encoding.features`. "trig" requires a single
        channel, and has no constant one.
    degree : int, optional
        Degree of "fourier" (by default 2), "polynomial" (2) and "spline" (4).
    normalize : {"standard", "quantile", "none"}
        Normalization of every channel, over all steps of the training data; as in
        :class:`TableEncoder`.
    clip : float
        Numbers are clipped to this many standard deviations.
    scale : float
        Size of the features relative to the constant channel.
    missing : {"error", "channel"}
        Treatment of NaN, for steps that were not measured or are beyond the end of a shorter
        sequence: raise an error, or add an indicator channel for each channel.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.cumsum(np.random.default_rng(0).standard_normal((20, 50)), axis=1)
    >>> encoder = SequenceEncoder(50, clip=10.0).fit(series)
    >>> x = encoder(series)
    >>> x.L, x.phys_dims[0], bool(np.allclose(encoder.reconstruct(x), series))
    (50, 2, True)
    """

    def __init__(
        self,
        steps: int,
        channels: int = 1,
        features: str = "linear",
        degree: int | None = None,
        normalize: str = "standard",
        clip: float = 3.0,
        scale: float = 1.0,
        missing: str = "error",
    ):
        super().__init__()
        check_positive(steps, "steps")
        check_positive(channels, "channels")
        self._degree = check_features(features, degree)
        choices = {"normalize": NORMALIZATIONS, "missing": ("error", "channel")}
        for argument, value in (("normalize", normalize), ("missing", missing)):
            if value not in choices[argument]:
                raise ValueError(
                    f"{argument} is {value!r}; choose one of {', '.join(choices[argument])}"
                )
        for argument, number in (("clip", clip), ("scale", scale)):
            if not 0.0 < number < np.inf:
                raise ValueError(f"{argument} is {number!r}, expected a positive number")
        if features == "trig" and (channels > 1 or missing == "channel"):
            raise ValueError(
                "features 'trig' fill a site: they take channels=1 and missing='error'; use "
                "'fourier'"
            )
        self.steps, self.channels, self.features, self.degree = steps, channels, features, degree
        self.normalize, self.clip, self.scale, self.missing = normalize, clip, scale, missing
        self._width = count_features(features, self._degree) + (missing == "channel")
        self.phys_dims = (channels * self._width + (features != "trig"),) * steps
        shapes = statistics_shapes(channels, normalize)
        self.buffers = {name: np.zeros(shape) for name, shape in shapes.items()}
        self.buffers["scale"] += 1.0

    def fit(self, data: Any) -> Self:
        """Fit the statistics of every channel to training data (n, steps[, channels])."""
        series = self._series(data, "data")
        matrix = series.reshape(-1, self.channels).astype(np.float64)
        self.buffers = fit_statistics(matrix, self.normalize)
        return self

    def check(self, data: Any, argument: str = "data") -> np.ndarray:
        """Return the data as an array, or raise ``TypeError`` or ``ValueError``."""
        self._series(data, argument)
        return np.asarray(data)

    def encode(self, data: Any) -> Cores:
        """Map sequences (n, steps[, channels]) to cores (n, 1, phys, 1), in their dtype."""
        series = self._series(data, "data")
        n = len(series)
        matrix = series.reshape(-1, self.channels).astype(np.float64)
        gaps = np.isnan(matrix)[..., None]  # (n * steps, channels, 1)
        z = scale_columns(matrix, self.buffers, self.normalize, self.clip)
        z = np.where(gaps[..., 0], 0.0, z)
        parts = expand(z, self.features, self._degree, extent(self.normalize, self.clip))
        if self.missing == "channel":
            parts = np.concatenate([np.where(gaps, 0.0, parts), gaps], axis=2)
        sites = parts.reshape(n, self.steps, -1)
        if self.features != "trig":
            sites = sites * (self.scale / np.sqrt(self.channels))
            sites = np.concatenate([np.ones((n, self.steps, 1)), sites], axis=2)
        sites = sites.astype(series.dtype)
        return tuple(sites[:, k, None, :, None] for k in range(self.steps))  # (n, 1, phys, 1)

    def reconstruct(self, x: MPS | Cores) -> np.ndarray:
        """Return the sequences (n, steps[, channels]) that product states encode.

        Clipped numbers are returned as clipped, missing ones as NaN.
        """
        sites = np.stack(site_vectors(x, self.phys_dims), axis=1)  # (n, steps, phys)
        if self.features != "trig":
            sites = sites[..., 1:] / sites[..., :1] * (np.sqrt(self.channels) / self.scale)
        parts = sites.reshape(-1, self.channels, self._width)
        gaps = np.zeros(parts.shape[:2], dtype=bool)
        if self.missing == "channel":
            parts, gaps = parts[..., :-1], parts[..., -1] > 0.5
        z = invert(parts, self.features, self._degree, extent(self.normalize, self.clip))
        matrix = unscale_columns(np.where(gaps, np.nan, z), self.buffers, self.normalize)
        return matrix.reshape(len(sites), self.steps, *self._shape[1:])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.steps,) if self.channels == 1 else (self.steps, self.channels)

    def _series(self, data: Any, argument: str) -> np.ndarray:
        """Check sequences and return them as (n, steps, channels)."""
        check_floating(data, argument)
        series = np.asarray(data)
        if series.ndim == 0 or len(series) == 0 or series.shape[1:] != self._shape:
            raise ValueError(
                f"{argument} has shape {series.shape}, expected (batch, "
                f"{', '.join(map(str, self._shape))}) with at least one sequence"
            )
        if series.dtype.kind == "c":
            raise TypeError(f"{argument} is complex; give real and imaginary parts as channels")
        if np.isinf(series).any():
            raise ValueError(f"{argument} holds infinite numbers; clip them first")
        if self.missing == "error" and np.isnan(series).any():
            raise ValueError(
                f"{argument} holds NaN; fill them in, or use missing='channel' to encode gaps"
            )
        return series.reshape(len(series), self.steps, self.channels)


class TokenEncoder(Encoder):
    r"""Encoder of sequences of tokens, such as letters, as product states of one-hot vectors.

    Parameters
    ----------
    steps : int
        Length of the sequences.
    tokens : int
        Size of the vocabulary; data are integers 0 ... tokens - 1, or -1 beyond the end of a
        shorter sequence.
    constant : bool
        Whether the vector of a site is (1, scale * one-hot), which is (1, 0, ...) for padding, or
        the one-hot vector alone: a basis state, which does not support padding.
    scale : float
        Size of the one-hot vector relative to the constant channel.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = TokenEncoder(steps=4, tokens=3)
    >>> x = encoder(np.array([[0, 2, 1, 1], [2, 0, -1, -1]]))
    >>> x.phys_dims, encoder.reconstruct(x).tolist()
    ((4, 4, 4, 4), [[0, 2, 1, 1], [2, 0, -1, -1]])
    """

    def __init__(self, steps: int, tokens: int, constant: bool = True, scale: float = 1.0):
        super().__init__()
        check_positive(steps, "steps")
        check_positive(tokens, "tokens")
        if not 0.0 < scale < np.inf:
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        if not constant and scale != 1.0:
            raise ValueError(
                f"scale is {scale!r}, but it has no effect without a constant channel; leave it out"
            )
        self.steps, self.tokens, self.constant, self.scale = steps, tokens, constant, scale
        self.phys_dims = (tokens + constant,) * steps

    def check(self, data: Any, argument: str = "data") -> np.ndarray:
        """Return the tokens as an array, or raise ``TypeError`` or ``ValueError``."""
        tokens = np.asarray(data)
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"{argument} has dtype {tokens.dtype}, expected integers")
        if tokens.ndim != 2 or len(tokens) == 0 or tokens.shape[1] != self.steps:
            raise ValueError(
                f"{argument} has shape {tokens.shape}, expected (batch, {self.steps}) with at "
                "least one sequence"
            )
        first = PADDING if self.constant else 0
        wrong = (tokens < first) | (tokens >= self.tokens)
        if wrong.any():
            n, k = np.argwhere(wrong)[0]
            more = "" if self.constant else "; padding, -1, takes constant=True"
            raise ValueError(
                f"{argument}[{n}, {k}] is {tokens[n, k]}, expected {first} ... {self.tokens - 1}"
                + more
            )
        return tokens

    def encode(self, data: Any) -> Cores:
        """Map tokens (n, steps) to cores (n, 1, phys, 1), float64."""
        tokens = self.check(data)
        vectors = np.eye(self.tokens + 1, self.tokens) * self.scale  # the last row is padding
        if self.constant:
            vectors = np.concatenate([np.ones((self.tokens + 1, 1)), vectors], axis=1)
        sites = vectors[tokens.astype(np.int64)]  # (n, steps, phys)
        return tuple(sites[:, k, None, :, None] for k in range(self.steps))

    def reconstruct(self, x: MPS | Cores) -> np.ndarray:
        """Return the tokens (n, steps) that product states encode: the largest entries."""
        sites = np.stack(site_vectors(x, self.phys_dims), axis=1)  # (n, steps, phys)
        if not self.constant:
            return np.abs(sites).argmax(axis=2)
        hot = sites[..., 1:] / sites[..., :1] / self.scale
        return np.where(hot.max(axis=2) > 0.5, hot.argmax(axis=2), PADDING)
