"""Schedules: when in a training a model grows, and how.

A schedule is a list of events, as tables of TOML or as a text: ``epoch=10 inflate=8; plateau=3
inflate=+2 where=best params=85000``. Only the standard library is imported here, to keep help texts
fast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

BEST = "best"
"""The layer that it helps most."""

BONDS = ("inflate", "max_bond")
"""Entries whose value is a bond dimension, ``8``, or by how much it rises, ``+2``."""

SIZES = (*BONDS, "widen")
"""Entries whose value is a size."""

PLACES = ("deepen", "repeat", "freeze", "thaw")
"""Entries whose value is the dotted path of a layer."""

EXAMPLE = "epoch=10 inflate=8; plateau=3 inflate=+2 where=best params=85000"


@dataclass(frozen=True)
class Event:
    """One change of a model, or one that is repeated on every plateau.

    Attributes
    ----------
    epoch : int, optional
        It happens after so many epochs.
    plateau : int, optional
        It happens whenever the validation loss has not fallen for so many epochs since the last
        change. One of epoch and plateau is given.
    inflate : str, optional
        Bond dimension of weights: a number, or "+2" for so much more; see
        :func:`ftnn.growth.inflate`.
    max_bond : str, optional
        Bond dimension of activations, likewise.
    widen : str, optional
        Physical dimension of hidden sites, a number; see :func:`ftnn.growth.widen`.
    deepen, repeat : str, optional
        Dotted path of a layer, after which a layer near the identity, or its copy, is inserted.
    freeze, thaw : str, optional
        Dotted path of a layer or an array that is no longer, or again, trained.
    prune : int, optional
        Parameters that are left when bond directions that matter least are cut; see
        :func:`ftnn.growth.prune`.
    where : str, optional
        Dotted path of the layer that grows, or "best": the one whose new entries would get the
        largest gradient, or, with max_bond, that discards most. By default all.
    params : int, optional
        It does not happen if the model would have more parameters.
    warm : float
        Epochs in which the learning rate rises again.
    """

    epoch: int | None = None
    plateau: int | None = None
    inflate: str | None = None
    max_bond: str | None = None
    widen: str | None = None
    deepen: str | None = None
    repeat: str | None = None
    freeze: str | None = None
    thaw: str | None = None
    prune: int | None = None
    where: str | None = None
    params: int | None = None
    warm: float = 1.0

    def __str__(self) -> str:
        """Return the words that :func:`schedule` reads."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in own.items() if value is not None}
        if given["warm"] == 1.0:
            del given["warm"]
        return " ".join(f"{name}={_shown(value)}" for name, value in given.items())

    @property
    def changes(self) -> dict[str, Any]:
        """What happens, by name."""
        names = (*SIZES, *PLACES, "prune")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def schedule(given: str | Sequence[Mapping[str, Any]]) -> tuple[Event, ...]:
    """Read a schedule.

    Parameters
    ----------
    given : str or sequence of mapping
        Events, joined by semicolons, of words like ``epoch=10``; or a table for each.

    Returns
    -------
    tuple of Event
        In the given order.

    Raises
    ------
    TypeError, ValueError
        If a word is unknown or its value is, an event has no time, two times or no change, or
        events contradict each other.

    Examples
    --------
    >>> schedule("epoch=10 inflate=8; plateau=3 inflate=+2 where=best")[1].plateau
    3
    """
    tables: Any = given
    if isinstance(given, str):
        tables = [_words(part) for part in given.split(";") if part.strip()]
    if not isinstance(tables, Sequence) or not tables:
        raise ValueError(f"grow is {given!r}, expected events such as {EXAMPLE!r}")
    events = tuple(_event(table, n + 1) for n, table in enumerate(tables))
    _check_together(events)
    return events


def text_of(given: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a schedule as a text.

    Examples
    --------
    >>> text_of([{"epoch": 10, "inflate": 8}, {"plateau": 3, "inflate": "+2"}])
    'epoch=10 inflate=8; plateau=3 inflate=+2'
    """
    return "; ".join(map(str, schedule(given)))


def _words(text: str) -> dict[str, str]:
    """Split an event into its words."""
    found: dict[str, str] = {}
    for word in text.split():
        name, sign, value = word.partition("=")
        if not sign or not value or name in found:
            what = "comes twice" if name in found else "is no NAME=VALUE"
            raise ValueError(f"grow: {word!r} {what}; write {EXAMPLE!r}")
        found[name] = value
    return found


def _event(table: Mapping[str, Any], number: int) -> Event:
    """Check one event."""
    where = f"grow: event {number}"
    if not isinstance(table, Mapping):
        raise TypeError(
            f"{where} is {table!r}, expected a table such as {{epoch = 10, inflate = 8}}"
        )
    names = [field.name for field in fields(Event)]
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in names:
            raise ValueError(f"{where} has {name!r}, expected one of {', '.join(names)}")
        if name in SIZES:
            values[name] = _size(value, f"{where}: {name}", name in BONDS)
        elif name in (*PLACES, "where"):
            if not isinstance(value, str) or not value:
                raise TypeError(f"{where}: {name} is {value!r}, expected a path such as '2.layer'")
            values[name] = value
        elif name == "warm":
            values[name] = _number(value, f"{where}: {name}", float)
        else:
            values[name] = _number(value, f"{where}: {name}", int)
    event = Event(**values)
    if (event.epoch is None) == (event.plateau is None):
        raise ValueError(f"{where} has {'both' if event.epoch else 'neither'} epoch and plateau; "
                         "give one of them")  # fmt: skip
    if not event.changes:
        changes = ", ".join((*SIZES, *PLACES, "prune"))
        raise ValueError(f"{where} changes nothing; give one of {changes}")
    if event.where is not None and not any(name in event.changes for name in SIZES):
        raise ValueError(f"{where} has where={event.where}, which goes with {', '.join(SIZES)}")
    if event.where == BEST and (len(event.changes) > 1 or event.widen is not None):
        raise ValueError(f"{where} has where=best, which goes with inflate or max_bond alone")
    return event


def _check_together(events: Sequence[Event]) -> None:
    """Raise ``ValueError`` if events contradict each other."""
    seen: dict[tuple[int, str, str | None], int] = {}
    sizes: dict[tuple[str, str | None], tuple[int, int, int]] = {}
    timed = [(n + 1, event) for n, event in enumerate(events) if event.epoch is not None]
    for number, event in sorted(timed, key=lambda item: (item[1].epoch, item[0])):
        assert event.epoch is not None
        for name, value in event.changes.items():
            place = value if name in PLACES else event.where
            kind = "freeze or thaw" if name in ("freeze", "thaw") else name
            key = (event.epoch, kind, str(place) if place else None)
            if name not in ("deepen", "repeat") and key in seen:
                raise ValueError(
                    f"grow: events {seen[key]} and {number} both {kind} {place or 'all layers'} "
                    f"after epoch {event.epoch}; leave one out"
                )
            seen[key] = number
            if name not in SIZES or value.startswith("+"):
                continue
            before = sizes.get((name, event.where))
            if before is not None and int(value) < before[0]:
                raise ValueError(
                    f"grow: {name} is {value} after epoch {event.epoch}, but {before[0]} after "
                    f"epoch {before[1]}; sizes may only rise, prune makes them smaller"
                )
            sizes[name, event.where] = (int(value), event.epoch, number)


def _size(value: Any, what: str, may_add: bool) -> str:
    """Return a size as a text."""
    text = str(value) if not isinstance(value, bool) else ""
    adds = text.startswith("+") and may_add
    if not text.removeprefix("+" if adds else "").isdecimal() or int(text) < 1:
        more = ", or +2 for so much more" if may_add else ""
        raise ValueError(f"{what} is {value!r}, expected a size such as 8{more}")
    return f"+{int(text)}" if adds else str(int(text))


def _number(value: Any, what: str, kind: type) -> Any:
    """Return a positive number."""
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        found = kind(value)
        if not (found >= 0 if kind is float else found >= 1) or found == float("inf"):
            raise ValueError
    except (TypeError, ValueError):
        expected = "an integer >= 1" if kind is int else "a number >= 0"
        raise ValueError(f"{what} is {value!r}, expected {expected}") from None
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
