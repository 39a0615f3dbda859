"""A trained model becomes one of tensor networks, within a budget of parameters."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from .difference import Difference, check_difference
from .factored import Factored
from .formats import CONV, EMBEDDING, LINEAR
from .linear import Linear
from .neurons import hidden, order_of, permute
from .places import SKIPPED, Place, call, find_places, observe, weight_of
from .probes import Probes
from .search import Search
from .tensorization import Tensorization


def tensorize(
    model: nn.Module,
    calibration: Iterable[Any] | None = None,
    params: float | None = None,
    ratio: float | None = None,
    max_error: float | None = None,
    formats: str | Sequence[str] = "auto",
    skip: str | Sequence[str] = (),
    difference: Literal["auto"] | Difference = "auto",
    forward: Callable[[nn.Module, Any], Any] = call,
    progress: Callable[[str], None] | None = None,
    order: bool = True,
) -> Tensorization:
    """Replace layers of a trained model by tensor networks, within one budget of parameters.

    Linear layers, convolutions and embeddings are fitted in several formats and sizes, in the
    metric of what they were called with on the calibration batches; each is tried in the model,
    and the budget is spent where it lowers the error of the outputs most. Layers that gain
    nothing stay dense. The given model is not changed.

    Parameters
    ----------
    model : torch.nn.Module
        Any model: layers are found by their class, whatever calls them.
    calibration : iterable, optional
        Batches of the training data, a few hundred samples or more: tensors, mappings of
        arguments, or tuples of which the first entry is the input. Gone through once. Without
        them, weights are fitted in the Frobenius norm.
    params : float or int
        Budget of the whole model: a fraction of its parameters if less than 1, else their number.
    ratio : float
        By how much the number of parameters falls.
    max_error : float
        Largest difference of the outputs on the calibration batches: relative error, or divergence
        in nats; then the parameters are as few as are found. One of params, ratio and max_error is
        required.
    formats : "auto" or sequence of str
        Formats to try, of those of the layers: "svd", "mpo", "tt", "ring", "tree"; "tucker", "cp",
        "tt"; "mpo".
    skip : str or sequence of str
        Names of layers, or of modules with all their layers, that stay dense; layers that no
        calibration batch reaches stay dense, too. Neurons between a layer that is skipped and one
        that is not may get another order.
    difference : {"auto", "l2", "kl"} or callable
        Of outputs and dense outputs: their relative error; the divergence of the probabilities
        whose logits they are; or any function of two tensors. By default "kl" if the model returns
        ``logits`` or the batches are pairs of inputs and integer labels, else "l2".
    forward : callable
        Calls the model with a batch.
    progress : callable, optional
        Called with a line of text for every layer.
    order : bool
        Whether hidden neurons between linear layers may get another order, of the same function,
        in which weights are closer to chains; see :mod:`ftnn.tensorized.neurons`. Needs
        calibration.

    Returns
    -------
    Tensorization

    Raises
    ------
    ValueError
        If not exactly one budget is given; if it cannot be met, with the nearest that can; if the
        calibration set is empty or has values that are not finite, or the model has no layer.
    TypeError
        If the model is no torch module.

    Examples
    --------
    >>> import torch, ftnn
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    ... )
    >>> found = ftnn.tensorize(model, [torch.randn(256, 64)], params=0.2)
    >>> found.params <= 0.2 * found.dense_params
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
    _budget(1, params, ratio, max_error)
    if max_error is not None and calibration is None:
        raise ValueError("max_error needs calibration batches, on which outputs are compared")
    tensorizer = Tensorizer(model, calibration, formats, skip, difference, forward, progress, order)
    return tensorizer.tensorize(params, ratio, max_error)


class Tensorizer:
    """Fits of the layers of a model, from which budget after budget is met.

    Parameters
    ----------
    model, calibration, formats, skip, difference, forward, progress, order
        See :func:`ftnn.tensorize`. Everything that a budget does not change is done here.

    Raises
    ------
    ValueError, TypeError
        As of :func:`ftnn.tensorize`.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    ... )
    >>> tensorizer = Tensorizer(model, [torch.randn(256, 64)])
    >>> found = [tensorizer.tensorize(ratio=ratio) for ratio in (2, 4, 8)]
    >>> all(one.params * ratio <= one.dense_params for one, ratio in zip(found, (2, 4, 8)))
    True
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: Iterable[Any] | None = None,
        formats: str | Sequence[str] = "auto",
        skip: str | Sequence[str] = (),
        difference: Literal["auto"] | Difference = "auto",
        forward: Callable[[nn.Module, Any], Any] = call,
        progress: Callable[[str], None] | None = None,
        order: bool = True,
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
        self._formats, self._progress = _checked_formats(formats), progress
        check_difference(difference)
        if not isinstance(order, bool):
            raise TypeError(f"order is {order!r}, expected True or False")
        self._model = copy.deepcopy(model)
        self._model.neuron_orders = {}  # type: ignore[assignment]
        new = copy.deepcopy(model).eval()
        self._total = sum(parameter.numel() for parameter in new.parameters())
        self._places = find_places(new, (skip,) if isinstance(skip, str) else skip)
        if all(place.reason for place in self._places):
            raise ValueError(
                "the model has no layer to tensorize, expected Linear, Conv1d, Conv2d, Conv3d or "
                f"Embedding{_reasons(self._places)}"
            )
        self._probes = Probes(new, forward, difference)
        if calibration is not None:
            free = [place for place in self._places if not place.reason]
            _gather(new, free, self._probes, calibration, forward)
            if order:
                self._order(new)
        self._search: Search | None = None

    def _order(self, model: nn.Module) -> None:
        """Give hidden neurons an order in which neighbours are alike.

        The model keeps it as its attribute ``neuron_orders``, by which healing compares it with the
        dense model.
        """
        places = {
            place.names[0]: place
            for place in self._places
            if place.kind is Linear and len(place.names) == 1 and place.reason in ("", SKIPPED)
        }
        for names in hidden(model, list(places), self._probes.batches[0], self._probes.forward):
            group = [places[name] for name in names]
            known = [_whole(place) for place in group]
            if known == [None] * len(known):
                continue
            makers = [weight_of(place.layer) for place in group[:-1]]
            found = order_of(list(zip(makers, known, strict=False)), known[-1])
            self._model.neuron_orders[names] = found  # type: ignore[index, operator]
            moments = group[-1].moments
            if moments is not None and known[-1] is not None:
                moments.permute(found)
            for own in (model, self._model):
                permute(own, names, found)

    def tensorize(
        self,
        params: float | None = None,
        ratio: float | None = None,
        max_error: float | None = None,
    ) -> Tensorization:
        """Return the model within a budget; see :func:`ftnn.tensorize`."""
        budget = _budget(self._total, params, ratio, max_error)
        if max_error is not None and not self._probes.batches:
            raise ValueError("max_error needs calibration batches, on which outputs are compared")
        if max_error is not None and max_error >= 1 and self._probes.difference == "l2":
            raise ValueError(f"max_error is {max_error}, expected a relative error between 0 and 1")
        if self._search is None:
            self._search = Search(
                self._model, self._places, self._formats, self._probes, self._progress
            )
        if budget is not None:
            return self._search.within(budget)
        assert max_error is not None
        return self._search.accurate(max_error)


def _whole(place: Place) -> Tensor | None:
    """Return the second moments of the inputs of a layer that is free, if they are a matrix."""
    if place.reason or place.moments is None:
        return None
    found = place.moments.second()
    return None if isinstance(found, Factored) else found


# ---- arguments -----------------------------------------------------------------------------------


def _gather(
    model: nn.Module,
    places: list[Place],
    probes: Probes,
    calibration: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any],
) -> None:
    """Gather moments; layers that have none stay dense: of them nothing can be judged."""
    if not observe(model, places, probes.seen(calibration), forward):
        raise ValueError("the calibration set is empty, expected at least one batch")
    for place in places:
        if place.moments is None or not place.moments.rows:
            place.reason = "not reached by the calibration batches"
    if all(place.reason for place in places):
        raise ValueError("the calibration batches reach no layer; they may have no samples")


def _checked_formats(formats: str | Sequence[str]) -> str | Sequence[str]:
    if formats == "auto":
        return formats
    known = {*LINEAR, *CONV, *EMBEDDING}
    given = (formats,) if isinstance(formats, str) else tuple(formats)
    for name in given:
        if name not in known:
            raise ValueError(f"formats has {name!r}, expected 'auto' or {', '.join(sorted(known))}")
    return given


def _budget(
    total: int, params: float | None, ratio: float | None, max_error: float | None
) -> int | None:
    """Return the largest number of parameters, or None if an error is given instead."""
    budgets = {"params": params, "ratio": ratio, "max_error": max_error}
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "none of params, ratio and max_error"
        raise ValueError(f"{what} {'are' if len(given) > 1 else 'is'} given; give one of them")
    if max_error is not None:
        if not max_error > 0:
            raise ValueError(f"max_error is {max_error}, expected a number > 0")
        return None
    if ratio is not None:
        if not ratio > 1:
            raise ValueError(f"ratio is {ratio}, expected a number > 1: 10 leaves a tenth")
        return int(total / ratio)
    assert params is not None
    if not params > 0:
        raise ValueError(f"params is {params}, expected a fraction, such as 0.1, or a number")
    return int(total * params if params < 1 else params)


def _reasons(places: Sequence[Place]) -> str:
    reasons = sorted({place.reason for place in places})
    return f" that is not {', '.join(reasons)}" if reasons else ""
