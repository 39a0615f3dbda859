"""Pointwise: one fixed function of every entry of every core."""

from collections.abc import Sequence

from ..chains.terms import Cores
from ..layers.layer import Layer
from .functions import (
    Function,
    check_mean_dims,
    check_real,
    counts_of,
    resolve_function,
    scaled_entries,
)


class Pointwise(Layer):
    r"""A function of core entries, shifted so that it is 0 at 0.

    Core by core, with :math:`u` the core scaled to mean square 1 per physical entry and
    :math:`g(u) = f(u) - f(0)`,

    .. math:: y = \|\cdot\|\, g(u) \qquad\text{or, as a residual,}\qquad y = \|\cdot\|\,(u + g(u)),

    multiplied by the divisor of the core afterwards.

    Parameters
    ----------
    fn : {"relu", "gelu", "tanh", "sigmoid", "silu", "sin"} or callable
        A callable takes and returns arrays entry by entry, of any backend, e.g.
        ``lambda u: u**3``, or of a single one, e.g. ``torch.tanh``, on which the layer must then be
        used; a model with a callable cannot be saved.
    residual : bool
        Whether to add the entry itself.
    normalize : bool
        Whether to scale cores as above; otherwise ``f`` acts on the unscaled entries.
    mean_dims : sequence of int, optional
        Number of channels of every site that the mean square is taken over, by default all;
        :func:`ftnn.growth.widen` keeps the old ones.
    skip : sequence of int
        Sites whose cores stay as they are, as those of :func:`ftnn.growth.insert_sites`.

    Notes
    -----
    It is a function of the vector only in a fixed gauge: place it after a layer whose output is in
    one, such as :class:`ftnn.Linear`, :class:`ftnn.nonlinear.SketchGauge` or
    :class:`ftnn.nonlinear.SVDGauge`. In both gauges the sign of a bond direction may jump; only an
    odd ``f`` commutes with that (see :class:`ftnn.nonlinear.KAN`).

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS([np.array([3.0, -4.0]).reshape(1, 1, 2, 1)])
    >>> print(ftnn.nonlinear.Pointwise("relu")(x).to_dense() + 0.0)
    [[3. 0.]]
    """

    def __init__(
        self,
        fn: str | Function,
        residual: bool = False,
        normalize: bool = True,
        mean_dims: Sequence[int] | None = None,
        skip: Sequence[int] = (),
    ):
        super().__init__()
        self.function = resolve_function(fn, at_zero=True)
        self.fn = self.function.argument
        self.residual, self.normalize = residual, normalize
        self.mean_dims, self.skip = check_mean_dims(mean_dims), tuple(skip)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        check_real(cores, "Pointwise")
        out = []
        for site, (core, count) in enumerate(
            zip(cores, counts_of(cores, self.mean_dims), strict=True)
        ):
            if site in self.skip:
                out.append(core)
                continue
            u, norm = scaled_entries(core, count) if self.normalize else (core, 1.0)
            new = self.function(u) - self.function.value
            out.append((u + new if self.residual else new) * norm)
        return tuple(out)
