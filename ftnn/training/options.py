"""Options: frozen dataclasses whose fields carry a help text and constraints.

A field is declared once; checks, command-line flags and keys of TOML files are derived from it.
Only the standard library is imported here, to keep ``ftnn train EXPERIMENT --help`` fast.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    remedy: str = "",
    free: bool = False,
    read: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare a field of a dataclass of options.

    Its annotation gives the type: ``int``, ``float``, ``bool``, ``str`` or a ``Literal`` of
    strings, each with or without ``| None``.

    Parameters
    ----------
    default : Any
    help : str
        One sentence.
    least, above, below : float, optional
        Bounds of a number: at least, more than, less than.
    remedy : str
        Remedy for an invalid value, after a semicolon in errors; by default the default value.
    free : bool
        Whether a run may be resumed with another value, as the result does not depend on it.
    read : callable, optional
        Maps a value as it is given, such as tables of TOML, to one of the type, or raises an error.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Width(Options):
    ...     width: int = option(8, "Width of the network.", least=1)
    >>> Width(width=0)
    Traceback (most recent call last):
    ...
    ValueError: width is 0, expected an integer >= 1; the default is 8
    """
    given = {"help": help, "least": least, "above": above, "below": below, "remedy": remedy}
    given |= {"free": free}
    return field(default=default, metadata=given | {"read": read})


@dataclass(frozen=True)
class Spec:
    """The declaration of one option.

    Attributes
    ----------
    name, help, remedy : str
    kind : type
        int, float, bool or str.
    optional : bool
        Whether None is allowed.
    choices : tuple of str
    least, above, below : float or None
    free : bool
        Whether a run may be resumed with another value.
    read : callable or None
        Maps a value as it is given to one of the type.
    group : str
        Title of its group of options.
    path : tuple of str
        Names of the enclosing fields, outermost first.
    """

    name: str
    help: str
    kind: type
    optional: bool
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    remedy: str = ""
    free: bool = False
    read: Callable[[Any], Any] | None = None
    group: str = ""
    path: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """Description of the allowed values."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = ((">=", self.least), (">", self.above), ("<", self.below))
        limits = [f"{sign} {bound:.10g}" for sign, bound in bounds if bound is not None]
        return f"{_NAMES[self.kind]} {' and '.join(limits)}".rstrip()

    def check(self, value: Any) -> Any:
        """Return the value in its type, or raise an error that states what was expected."""
        if value is None and self.optional:
            return None
        if self.read is not None:
            value = self.read(value)
        numbers = {int: Integral, float: Real}
        types = numbers.get(self.kind, self.kind)
        if not isinstance(value, types) or (isinstance(value, bool) and self.kind is not bool):
            raise TypeError(self._message(value))
        value = self.kind(value)
        wrong = (
            (self.choices and value not in self.choices)
            or (self.kind is float and not math.isfinite(value))
            or (self.kind is str and not value)
            or (self.least is not None and not value >= self.least)
            or (self.above is not None and not value > self.above)
            or (self.below is not None and not value < self.below)
        )
        if wrong:
            raise ValueError(self._message(value))
        return value

    def parse(self, text: str) -> Any:
        """Parse a command-line value; leave anything that is not a number to :meth:`check`."""
        try:
            return self.kind(text)
        except ValueError:
            return text

    def _message(self, value: Any) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.name} is {value!r}, expected {self.expected}{remedy}"


@dataclass(frozen=True)
class Options:
    """Base class of options: every field is checked when the object is created.

    Options may be nested, as those of an experiment contain a :class:`ftnn.training.TrainConfig`;
    on the command line and in files all share one level, so their names must differ.

    Raises
    ------
    TypeError, ValueError
        With the field, the value, and what was expected.
    """

    title: ClassVar[str] = "Experiment"
    """Heading of these options in a help text."""

    def __post_init__(self) -> None:
        for spec in _own(type(self)).values():
            object.__setattr__(self, spec.name, spec.check(getattr(self, spec.name)))

    def idle(self) -> dict[str, str]:
        """Return the options without effect, given the values of others, each with the reason."""
        return {}


def specs_of(options: type) -> dict[str, Spec]:
    """Return the declarations of all options of a dataclass, nested ones included, by name.

    Raises
    ------
    TypeError
        If a field has an unknown type, or two fields have the same name.
    """
    specs = dict(_own(options))
    for name, nested in _nested(options).items():
        for spec in specs_of(nested).values():
            if spec.name in specs:
                raise TypeError(
                    f"{options.__name__} has two options {spec.name!r}, one of them in {name}; "
                    "rename one: on the command line they share one level"
                )
            specs[spec.name] = replace(spec, path=(name, *spec.path))
    return specs


def flat(options: Any) -> dict[str, Any]:
    """Return the values of all options, nested ones included, by name.

    Examples
    --------
    >>> from ftnn.training import TrainConfig
    >>> flat(TrainConfig(epochs=3))["epochs"]
    3
    """
    return {name: _value(options, spec) for name, spec in specs_of(type(options)).items()}


def replace_values(options: T, values: Mapping[str, Any]) -> T:
    """Return options with some values replaced, by name at any level of nesting.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or an invalid type or value.

    Examples
    --------
    >>> from ftnn.training import TrainConfig
    >>> replace_values(TrainConfig(), {"epochs": 3}).epochs
    3
    """
    specs = specs_of(type(options))
    for name in values:
        if name not in specs:
            raise ValueError(f"unknown key {name!r}, expected one of {', '.join(specs)}")
    return _replace(options, {specs[name]: value for name, value in values.items()}, 0)


def idle(options: Any) -> dict[str, str]:
    """Return the options without effect, nested ones included, each with the reason."""
    result = dict(options.idle()) if isinstance(options, Options) else {}
    for name in _nested(type(options)):
        result |= idle(getattr(options, name))
    return result


def _replace(options: Any, values: Mapping[Spec, Any], depth: int) -> Any:
    new = {spec.name: spec.check(v) for spec, v in values.items() if len(spec.path) == depth}
    for name in _nested(type(options)):
        inner = {s: v for s, v in values.items() if s.path[depth : depth + 1] == (name,)}
        if inner:
            new[name] = _replace(getattr(options, name), inner, depth + 1)
    return replace(options, **new)


def _value(options: Any, spec: Spec) -> Any:
    for name in spec.path:
        options = getattr(options, name)
    return getattr(options, spec.name)


def _nested(options: Any) -> dict[str, type]:
    hints = get_type_hints(options)
    return {f.name: hints[f.name] for f in fields(options) if is_dataclass(hints[f.name])}


def _own(options: Any) -> dict[str, Spec]:
    hints, nested = get_type_hints(options), _nested(options)
    title = getattr(options, "title", Options.title)
    return {f.name: _spec(f, hints[f.name], title) for f in fields(options) if f.name not in nested}


def _spec(declared: Any, hint: Any, group: str) -> Spec:
    given = dict(declared.metadata) or {"help": ""}
    parts = [hint]
    if get_origin(hint) in (Union, UnionType):
        parts = list(get_args(hint))
    kinds = [part for part in parts if part is not NoneType]
    choices: tuple[str, ...] = ()
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        choices = get_args(kinds[0])
        kinds = [str]
    if len(kinds) != 1 or kinds[0] not in _NAMES:
        raise TypeError(
            f"option {declared.name!r} is annotated {hint}, expected int, float, bool, str or a "
            "Literal of texts, each with | None or without"
        )
    if not given.get("remedy") and isinstance(declared.default, (int, float, str)):
        given["remedy"] = f"the default is {format_value(declared.default)}"
    return Spec(declared.name, kind=kinds[0], optional=NoneType in parts, choices=choices,
                group=group, **given)  # fmt: skip


def format_value(value: Any) -> str:
    """Format a value as it is typed.

    Examples
    --------
    >>> format_value(1e-3), format_value(True)
    ('0.001', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
