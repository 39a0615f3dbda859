"""Channels: the site vectors of a table, column by column, and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .columns import Schema
from .entries import MISSING, UNKNOWN
from .features import count_features, expand, invert


@dataclass(frozen=True)
class Channels:
    """The channels of every column of a table, and the columns of every site.

    Attributes
    ----------
    schema : Schema
    features : str
    degree : int
        Of the features of numbers; see :mod:`ftnn.encoding.features`.
    limit : float
        Largest scaled number.
    unknown : str
        What becomes of unknown categories, as in :class:`ftnn.encoding.TableEncoder`.
    group : int
        Columns per site.
    order : tuple of int, optional
        The columns along the chain.
    """

    schema: Schema
    features: str
    degree: int
    limit: float
    unknown: str
    group: int
    order: tuple[int, ...] | None = None

    @property
    def sites(self) -> list[tuple[int, ...]]:
        """The columns of every site."""
        count = len(self.schema.kinds)
        order = tuple(range(count)) if self.order is None else self.order
        return [order[k : k + self.group] for k in range(0, count, self.group)]

    @property
    def phys_dims(self) -> tuple[int, ...]:
        """The dimensions of the site vectors, constant channels included."""
        return tuple(sum(map(self.width, own)) + (not self.is_bare(own)) for own in self.sites)

    def is_bare(self, own: Sequence[int]) -> bool:
        """Return whether the site of some columns has no constant channel."""
        return self.features == "trig" and self.schema.kinds[own[0]] == "numeric"

    def width(self, k: int) -> int:
        """Count the channels of column ``k``, those for unknown and missing values included."""
        if self.schema.kinds[k] == "numeric":
            width = count_features(self.features, self.degree)
        else:
            width = len(self.schema.categories[k]) + (self.unknown == "channel")
        return width + self.schema.missing[k]

    def encode(self, z: np.ndarray, codes: np.ndarray, frequent: np.ndarray) -> list[np.ndarray]:
        """Return the channels (n, width) of every column.

        Parameters
        ----------
        z : array (n, numeric)
            Scaled numbers, NaN where missing.
        codes : int array (n, categorical)
        frequent : int array (categorical,)
            The most frequent category of every column, in place of missing ones without a channel.
        """
        gaps = np.isnan(z)
        z = np.where(gaps, 0.0, z)
        blocks = [np.empty(0)] * len(self.schema.kinds)
        for n, k in enumerate(self.schema.of_kind("numeric")):
            gap = gaps[:, n, None]  # (n, 1)
            blocks[k] = expand(z[:, n], self.features, self.degree, self.limit)  # (n, features)
            if self.schema.missing[k]:
                blocks[k] = np.concatenate([np.where(gap, 0.0, blocks[k]), gap], axis=1)
        for n, k in enumerate(self.schema.of_kind("category")):
            width, code = self.width(k), codes[:, n]
            last = width - 1 if self.schema.missing[k] else frequent[n]
            code = np.where(code == MISSING, last, code)
            other = len(self.schema.categories[k]) if self.unknown == "channel" else width
            blocks[k] = np.eye(width + 1)[np.where(code == UNKNOWN, other, code)][:, :width]
        return blocks

    def decode_numbers(self, k: int, block: np.ndarray) -> np.ndarray:
        """Return the scaled numbers (n,) from the channels of a column, NaN where missing."""
        missing = self.schema.missing[k]
        values = block[:, :-1] if missing else block
        z = invert(values, self.features, self.degree, self.limit)
        return np.where(block[:, -1] > 0.5, np.nan, z) if missing else z

    def decode_names(self, k: int, block: np.ndarray) -> list[str | None]:
        """Return the categories from the channels of a column, None where none of them is set."""
        known = self.schema.categories[k]
        if not known:
            return [None] * len(block)
        best, sure = np.argmax(block, axis=1), np.max(block, axis=1) > 0.5
        return [known[b] if s and b < len(known) else None for b, s in zip(best, sure, strict=True)]
