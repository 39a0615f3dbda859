"""Check that a resumed run has the options it was started with."""

from collections.abc import Collection, Mapping
from typing import Any

from .config import TrainConfig
from .options import specs_of

FREE_TO_CHANGE = tuple(spec.name for spec in specs_of(TrainConfig).values() if spec.free)
"""Fields of the configuration that may differ when a run is resumed."""


def check_same(
    saved: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = FREE_TO_CHANGE
) -> None:
    """Raise ``ValueError`` if a run is resumed with options that change its result.

    Parameters
    ----------
    saved, now : mapping
        Options by name, as JSON types.
    free : collection of str
        Names of options that may differ.

    Examples
    --------
    >>> check_same({"lr": 0.1, "device": "cpu"}, {"lr": 0.1, "device": "cuda"})
    >>> check_same({"lr": 0.1}, {"lr": 0.2})
    Traceback (most recent call last):
    ...
    ValueError: it was trained with lr 0.1 (now 0.2); resume with the same values, or train in a new folder
    """  # noqa: E501  # the message is one line
    differing = [
        f"{name} {saved.get(name)!r:.200} (now {value!r:.200})"
        for name, value in now.items()
        if name not in free and saved.get(name) != value
    ]
    if differing:
        raise ValueError(
            f"it was trained with {', '.join(differing)}; resume with the same values, or train in "
            "a new folder"
        )
