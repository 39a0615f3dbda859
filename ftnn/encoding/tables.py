r"""Tables to MPS: a product state with one site per column or group of columns.

The vector of a site is :math:`(1, \phi)`: a constant channel, which prevents the overlap of long
chains from decaying, and the features of its columns. These are scaled to a norm of about
``1 / sqrt(number of sites)``, which prevents the norms of long product states from differing by
orders of magnitude. A number has one feature or several (:mod:`ftnn.encoding.features`), a
category is one-hot.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from ..chains.dims import check_order, check_positive
from ..chains.states import MPS
from ..chains.terms import Cores
from .channels import Channels
from .columns import (
    KINDS,
    Schema,
    check_columns,
    join,
    kinds_of,
    missing_value,
    read_entries,
    select_columns,
    title,
)
from .encoder import Encoder, site_vectors
from .entries import categories, guess_kind, most_frequent, numbers
from .features import check_features
from .scaling import (
    NORMALIZATIONS,
    extent,
    fit_statistics,
    scale_columns,
    statistics_shapes,
    unscale_columns,
)

CHOICES = {
    "normalize": NORMALIZATIONS,
    "missing": ("channel", "impute", "error"),
    "unknown": ("zeros", "channel", "error"),
}


class TableEncoder(Encoder):
    r"""Encoder of table rows as product states with one site per column or group of columns.

    Parameters
    ----------
    columns : sequence or mapping of {"numeric", "category"}, optional
        The kind of every column. By default a column is numeric if all training entries can be
        parsed as numbers. A mapping from names to kinds also selects columns of a data frame, and
        their order; for an array it names the columns.
    features : {"linear", "trig", "fourier", "polynomial", "spline"}
        Features of the numbers; see :mod:`ftnn.encoding.features`. "trig" sites have no constant
        channel: their vector :math:`(\cos\tfrac{\pi}{2}u, \sin\tfrac{\pi}{2}u)` has norm 1.
    degree : int, optional
        Degree of "fourier" (frequencies; by default 2), "polynomial" (2) and "spline" (intervals;
        4).
    normalize : {"standard", "quantile", "none"}
        "standard" shifts and scales every column to mean 0 and variance 1. "quantile" maps it to
        its ranks in the training data, evenly spread with mean 0 and variance 1. "none" leaves
        numbers unchanged.
    clip : float
        Numbers are clipped to this many standard deviations, or with "quantile" to the extremes of
        the training data.
    scale : float, optional
        Size of the features of a site relative to the constant channel. By default
        ``1 / sqrt(number of sites)``, so that all features of a row together have a norm of about
        1; see the notes.
    group : int
        Columns per site.
    missing : {"channel", "impute", "error"}
        Treatment of missing values (NaN, None, pandas.NA, or strings such as "", "NA", "?"): a
        channel of their own, in columns where training data have any; imputation by the mean (the
        median with "quantile", the most frequent category); or a ``ValueError``. Columns without
        such a channel are imputed.
    unknown : {"zeros", "channel", "error"}
        Treatment of categories that are not in the training data: zeros next to the constant
        channel, a channel of their own, or a ``ValueError``.

    Attributes
    ----------
    schema : ftnn.encoding.columns.Schema
        Names, kinds and categories of the columns, after fitting.
    constant : tuple of int
        Numeric columns that do not vary in the training data; their features are those of 0.

    Notes
    -----
    The norm of a product state is :math:`\prod_k (1 + |\phi_k|^2)^{1/2}`. With features of norm 1
    on 30 sites its logarithm has a standard deviation of 3.7 over the rows of a table (breast
    cancer), so that the outputs of a network differ by orders of magnitude from row to row, and
    training collapses. With features of norm :math:`1/\sqrt{30}` it has one of 0.35. The
    measurement is in docs/scikit-learn.md.

    Data are arrays (n, columns) of numbers or of objects, or data frames of pandas or polars.
    Categories are compared as strings: 1, 1.0 and "1" are the same.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.array([[1.0, 10.0], [3.0, np.nan], [5.0, 30.0]])
    >>> encoder = TableEncoder().fit(table)
    >>> x = encoder(table)
    >>> x.phys_dims, encoder.reconstruct(x).tolist()
    ((2, 3), [[1.0, 10.0], [3.0, nan], [5.0, 30.0]])
    >>> people = np.array([[31, "red"], [47, "blue"], [25, "red"]], dtype=object)
    >>> encoder = TableEncoder(["numeric", "category"], group=2).fit(people)
    >>> encoder.phys_dims, encoder.schema.categories[1]
    ((4,), ['blue', 'red'])
    >>> print(encoder.encode(people)[0][:, 0, :, 0].round(2))  # 1, age, blue, red
    [[ 1.   -0.25  0.    0.71]
     [ 1.    0.96  0.71  0.  ]
     [ 1.   -0.71  0.    0.71]]
    >>> round(TableEncoder().fit(np.eye(100)).site_scale, 3)
    0.1
    """

    def __init__(
        self,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        features: str = "linear",
        degree: int | None = None,
        normalize: str = "standard",
        clip: float = 3.0,
        scale: float | None = None,
        group: int = 1,
        missing: str = "channel",
        unknown: str = "zeros",
        order: Sequence[int] | None = None,
    ):
        super().__init__()
        self.columns = check_columns(columns)
        self._degree = check_features(features, degree)
        self.normalize, self.missing, self.unknown = normalize, missing, unknown
        for argument, choices in CHOICES.items():
            if getattr(self, argument) not in choices:
                raise ValueError(
                    f"{argument} is {getattr(self, argument)!r}; choose one of {', '.join(choices)}"
                )
        for argument, number in (("clip", clip), ("scale", scale)):
            if number is not None and not 0.0 < number < np.inf:
                raise ValueError(f"{argument} is {number!r}, expected a positive number")
        check_positive(group, "group")
        if features == "trig" and group > 1:
            raise ValueError(
                f"group is {group}, but features 'trig' fill a site; use group=1, or 'fourier'"
            )
        self.features, self.degree = features, degree
        self.clip, self.scale, self.group = clip, scale, group
        self.order = None if order is None else tuple(int(k) for k in check_order(order))
        self.schema = Schema()

    @property
    def constant(self) -> tuple[int, ...]:
        """Numeric columns that did not vary in the training data."""
        if not self.phys_dims:
            return ()
        places = self.schema.of_kind("numeric")
        return tuple(k for k, s in zip(places, self.buffers["scale"], strict=True) if s == 0.0)

    @property
    def site_scale(self) -> float:
        """Size of the features of a site: ``scale``, or 1 / sqrt(number of sites)."""
        if self.scale is not None:
            return float(self.scale)
        return 1.0 / float(np.sqrt(len(self._fitted_dims())))

    def fit(self, data: Any) -> Self:
        """Fit kinds, categories, centers and scales of the columns to training data.

        Parameters
        ----------
        data : array (n, columns) or data frame
            Training data only.

        Returns
        -------
        TableEncoder
            This encoder.

        Raises
        ------
        TypeError
            If data are not a table of numbers, strings or objects.
        ValueError
            If the table is empty, a number is infinite or cannot be parsed, or columns do not
            match.
        """
        self.schema = Schema()
        columns, names = self._select(data, "data")
        titles = [title("data", k, names) for k in range(len(columns))]
        kinds = list(kinds_of(self.columns) or map(guess_kind, columns, titles))
        known: list[list[str]] = []
        missing, values, frequent = [], [], []
        for k, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
            if kind == "numeric":
                known.append([])
                values.append(numbers(column, titles[k]))
                missing.append(bool(np.isnan(values[-1]).any()))
            else:
                met = set(categories(column))
                known.append(sorted(name for name in met if name is not None))
                frequent.append(most_frequent(column, known[-1]))
                missing.append(None in met)
        if self.missing == "error" and any(missing):
            raise missing_value(titles[missing.index(True)])
        own_channel = [have and self.missing == "channel" for have in missing]
        self._set_schema(Schema(names, kinds, known, own_channel))
        matrix = join(values, len(columns[0]), np.float64)
        self.buffers["frequent"] = np.array(frequent, dtype=np.int64)
        self.buffers |= fit_statistics(matrix, self.normalize)
        return self

    def check(self, data: Any, argument: str = "data") -> Any:
        """Return data unchanged, or raise unless they have the columns of the training data."""
        self._read(data, argument)
        return data

    def encode(self, data: Any) -> Cores:
        """Map rows of a table to cores (n, 1, phys, 1): float32 for float32 arrays, else float64.

        Parameters
        ----------
        data : array (n, columns) or data frame
            With the columns of the training data.
        """
        matrix, codes = self._read(data, "data")
        z = scale_columns(matrix, self.buffers, self.normalize, self.clip)
        blocks = self._channels.encode(z, codes, self.buffers["frequent"])
        dtype = np.float32 if getattr(data, "dtype", None) == np.float32 else np.float64
        cores = []
        for own in self._channels.sites:
            parts = [blocks[k] for k in own]
            if not self._channels.is_bare(own):
                factor = self.site_scale / np.sqrt(len(own))
                parts = [np.ones((len(parts[0]), 1)), *(factor * part for part in parts)]
            site = np.concatenate(parts, axis=1).astype(dtype)  # (n, phys)
            cores.append(site[:, None, :, None])
        return tuple(cores)

    def reconstruct(self, x: MPS | Cores) -> np.ndarray:
        """Return the table encoded by product states.

        Parameters
        ----------
        x : MPS or tuple of array (n, 1, phys, 1)

        Returns
        -------
        array (n, columns)
            float64 with NaN for missing values; or, with categories, of objects: floats, the
            names of categories, and None for those missing or unknown. Clipped numbers are returned
            as clipped.
        """
        found: list[np.ndarray] = []
        sites = site_vectors(x, self._fitted_dims())
        for own, site in zip(self._channels.sites, sites, strict=True):
            if not self._channels.is_bare(own):
                site = site[:, 1:] / site[:, :1] * (np.sqrt(len(own)) / self.site_scale)
            ends = np.cumsum([self._channels.width(k) for k in own])
            found += np.split(site, ends[:-1], axis=1)
        columns = [k for own in self._channels.sites for k in own]
        blocks = [found[columns.index(k)] for k in range(len(found))]
        n, numeric = len(blocks[0]), self.schema.of_kind("numeric")
        z = [self._channels.decode_numbers(k, blocks[k]) for k in numeric]
        matrix = unscale_columns(join(z, n, np.float64), self.buffers, self.normalize)
        if len(numeric) == len(blocks):
            return matrix
        table = np.empty((n, len(blocks)), dtype=object)
        table[:, numeric] = matrix
        for k in self.schema.of_kind("category"):
            table[:, k] = self._channels.decode_names(k, blocks[k])
        return table

    def reconstruction_error(self, data: Any) -> np.ndarray:
        """Return the change of the numbers in every row by clipping.

        Parameters
        ----------
        data : array (n, columns) or data frame

        Returns
        -------
        float64 array (n,)
            Root mean square over the numeric columns, in standard deviations of the training
            data; missing values and constant columns count as 0.
        """
        matrix, _ = self._read(data, "data")
        if matrix.shape[1] == 0:
            return np.zeros(len(matrix))
        numeric = self.schema.of_kind("numeric")
        near = self.reconstruct(self.encode(data))[:, numeric].astype(np.float64)
        gaps = np.nan_to_num((near - matrix) * self.buffers["scale"])
        return np.sqrt(np.mean(gaps**2, axis=1))

    def set_buffers(self, buffers: Mapping[str, np.ndarray]) -> None:
        """Restore fitted arrays read from a file, and the description of the columns in them."""
        if not buffers:
            return  # saved before it was fitted
        if "schema" not in buffers:
            raise ValueError("array encoder.schema is missing")
        self._set_schema(Schema.from_array(buffers["schema"]))
        numeric, other = (len(self.schema.of_kind(kind)) for kind in KINDS)
        shapes = statistics_shapes(numeric, self.normalize) | {"frequent": (other,)}
        self.buffers |= {name: np.empty(shape) for name, shape in shapes.items()}
        super().set_buffers(buffers)

    # ---- columns ---------------------------------------------------------------------------------

    def _select(self, data: Any, argument: str) -> tuple[list[np.ndarray], list[str] | None]:
        """Return the columns of a table in the order of the encoder, and their names."""
        names = list(self.columns) if isinstance(self.columns, dict) else self.schema.names
        known = self.schema.kinds or self.columns
        return select_columns(data, argument, names, len(known) if known else None)

    def _read(self, data: Any, argument: str) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers (n, numeric), NaN if missing, and codes (n, categorical) of a table."""
        self._fitted_dims()
        columns, names = self._select(data, argument)
        titles = [title(argument, k, names) for k in range(len(columns))]
        refused = {name for name in ("missing", "unknown") if getattr(self, name) == "error"}
        return read_entries(columns, titles, self.schema, refused)

    def _fitted_dims(self) -> tuple[int, ...]:
        if not self.phys_dims:
            raise ValueError("the encoder is not fitted; call encoder.fit(training_data) first")
        return self.phys_dims

    def _set_schema(self, schema: Schema) -> None:
        limit = extent(self.normalize, self.clip)
        if self.order is not None and len(self.order) != len(schema.kinds):
            raise ValueError(
                f"order is of {len(self.order)} columns, but data has {len(schema.kinds)}"
            )
        self.schema = schema
        self._channels = Channels(
            schema, self.features, self._degree, limit, self.unknown, self.group, self.order
        )
        self.buffers = {"schema": schema.to_array()}
        self.phys_dims = self._channels.phys_dims
