"""The frame of an experiment: what can be configured, what data are, what a model is built from.

Only the standard library and NumPy are imported here, so that ``ftnn --help`` is quick.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..training.score import ACCURACY, Score

if TYPE_CHECKING:
    from ..layers.layer import Layer


def _option(
    default: Any,
    help: str,
    *,
    kind: type,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    optional: bool = False,
) -> Any:
    """Field of :class:`Config`: its default, its help text, and the values it takes."""
    limits = {"least": least, "above": above, "below": below}
    metadata = {"help": help, "kind": kind, "choices": choices, "optional": optional, **limits}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Everything a run of an experiment can be told.

    The meaning and the range of every field stand in its ``metadata``; the command line and the
    checks are made from them.

    Raises
    ------
    TypeError, ValueError
        Naming the field, what it got, and what was expected.

    Examples
    --------
    >>> Config(epochs=3).epochs
    3
    >>> Config(epochs=0)
    Traceback (most recent call last):
    ...
    ValueError: epochs is 0, expected an integer >= 1
    """

    data: str | None = _option(
        None, "Folder with the data set; by default the usual places.", kind=str, optional=True
    )
    limit: int | None = _option(
        None,
        "Train and validate on at most so many samples, for a trial.",
        kind=int,
        least=1,
        optional=True,
    )
    start: str | None = _option(
        None, "Run folder or model file whose weights to start with.", kind=str, optional=True
    )
    epochs: int = _option(20, "Passes over the training data.", kind=int, least=1)
    fine_epochs: int = _option(
        0,
        "Epochs on a grid finer than 2^10 points, after those on one of 2^10; 0 trains on the "
        "finer one only.",
        kind=int,
        least=0,
    )
    batch_size: int = _option(64, "Samples in one update.", kind=int, least=1)
    lr: float = _option(1e-2, "Peak learning rate.", kind=float, above=0.0)
    fine_lr: float = _option(1e-3, "Peak learning rate of the fine epochs.", kind=float, above=0.0)
    linear_lr: float = _option(
        1.0,
        "Learning rate of the weights of Linear layers, as a share of lr.",
        kind=float,
        above=0.0,
    )
    weight_decay: float = _option(0.0, "Decoupled weight decay.", kind=float, least=0.0)
    label_smoothing: float = _option(
        0.0, "Label smoothing of the cross entropy.", kind=float, least=0.0, below=1.0
    )
    ema_decay: float = _option(
        0.0,
        "Decay of the running average of the weights; 0 is off.",
        kind=float,
        least=0.0,
        below=1.0,
    )
    clip_norm: float | None = _option(
        None, "Clip the gradient to this norm; 0 is off.", kind=float, least=0.0, optional=True
    )
    schedule: str = _option(
        "cosine",
        "Course of the learning rate.",
        kind=str,
        choices=("constant", "cosine", "onecycle"),
    )
    warmup: float = _option(
        0.1,
        "Share of the updates in which the learning rate rises.",
        kind=float,
        least=0.0,
        below=1.0,
    )
    optimizer: str = _option(
        "adamw", "Optimizer of torch.", kind=str, choices=("adam", "adamw", "sgd")
    )
    patience: int | None = _option(
        None,
        "Stop after this many epochs without a better validation result; 0 is off.",
        kind=int,
        least=0,
        optional=True,
    )
    sites: int | None = _option(
        None,
        "Sites of the chain, where the experiment leaves it open.",
        kind=int,
        least=1,
        optional=True,
    )
    grid: int = _option(32, "Points a side of the phase diagram.", kind=int, least=2)
    input_bond: int = _option(16, "Bond dimension of states as inputs.", kind=int, least=1)
    max_bond: int = _option(8, "Bond dimension of the activations.", kind=int, least=1)
    bond_dim: int = _option(4, "Bond dimension of the weights.", kind=int, least=1)
    readout_bond: int = _option(8, "Bond dimension of the readout.", kind=int, least=1)
    phys: int = _option(4, "Physical dimension of hidden layers.", kind=int, least=1)
    depth: int = _option(2, "Number of hidden layers.", kind=int, least=0)
    nonlinearity: str = _option(
        "kan",
        "What follows every hidden layer.",
        kind=str,
        choices=("kan", "tanh", "relu", "none"),
    )
    features: int = _option(
        9, "Trainable features of a patch, with the constant one.", kind=int, least=2
    )
    hidden: int = _option(64, "Hidden vector of the trainable features.", kind=int, least=1)
    dropout: float = _option(
        0.0, "Share of the features dropped in training.", kind=float, least=0.0, below=1.0
    )
    block_bond: int = _option(
        8, "Bond dimension within the blocks of sites that become one.", kind=int, least=1
    )
    augment: bool = _option(False, "Train on randomly transformed images.", kind=bool)
    seed: int = _option(
        0, "Seed of the split, the weights and the batches.", kind=int, least=0, below=2**32
    )
    device: str = _option("cpu", "Device of torch: auto, cpu, cuda or cuda:N.", kind=str)
    dtype: str = _option(
        "float32", "Precision of training.", kind=str, choices=("float32", "float64")
    )
    threads: int | None = _option(
        None, "CPU threads of torch; 0 leaves them as they are.", kind=int, least=0, optional=True
    )
    checkpoint_seconds: float = _option(
        0.0, "Checkpoint within an epoch after so many seconds; 0 is off.", kind=float, least=0.0
    )
    compile: bool = _option(
        False, "Train through torch.compile: a first step of minutes, then faster ones.", kind=bool
    )
    recompute: bool = _option(
        False, "Compute activations again in the backward pass: less memory, slower.", kind=bool
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = _checked(option.name, getattr(self, option.name), option.metadata)
            object.__setattr__(self, option.name, value)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)


def _checked(name: str, value: Any, spec: Mapping[str, Any]) -> Any:
    kind = spec["kind"]
    if value is None and spec["optional"]:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is {value!r}, expected {_expected(spec)}")
    least, above, below = spec["least"], spec["above"], spec["below"]
    wrong = (
        (spec["choices"] and value not in spec["choices"])
        or (least is not None and not value >= least)
        or (above is not None and not value > above)
        or (below is not None and not value < below)
        or (kind is float and not np.isfinite(value))
        or (kind is str and not value)
    )
    if wrong:
        raise ValueError(f"{name} is {value!r}, expected {_expected(spec)}")
    return value


def _expected(spec: Mapping[str, Any]) -> str:
    if spec["choices"]:
        return f"one of {', '.join(spec['choices'])}"
    text = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    limits = [
        f"{sign} {spec[key]:.10g}"
        for key, sign in (("least", ">="), ("above", ">"), ("below", "<"))
        if spec[key] is not None
    ]
    return f"{text[spec['kind']]} {' and '.join(limits)}".rstrip()


STATES_ONLY = ("sites", "grid", "input_bond")
"""Fields of :class:`Config` that experiments on images have no use for."""

PATCHES_ONLY = ("features", "hidden", "dropout", "block_bond")
"""Fields of :class:`Config` that only networks with features of patches have a use for."""

FUNCTIONS_ONLY = ("fine_epochs", "fine_lr")
"""Fields of :class:`Config` that only experiments on functions have a use for."""

LAYERS_ONLY = ("bond_dim", "max_bond")
"""Fields of :class:`Config` that no network of depth 0 has a use for."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples with targets, split in three.

    Inputs are images in [0, 1], array (n, height, width), or states, tuple of array
    (n, left, phys, right). Targets are labels, int64 array (n,), or states.

    Attributes
    ----------
    train_inputs, val_inputs, test_inputs : array or tuple of array
    train_targets, val_targets, test_targets : array or tuple of array
    class_names : tuple of str
        Empty where the targets are states.
    """

    train_inputs: Any
    train_targets: Any
    val_inputs: Any
    val_targets: Any
    test_inputs: Any
    test_targets: Any
    class_names: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Any, Any]:
        """Give inputs and targets of ``"train"``, ``"val"`` or ``"test"``."""
        if name not in ("train", "val", "test"):
            raise ValueError(f"split is {name!r}, expected one of train, val, test")
        return getattr(self, f"{name}_inputs"), getattr(self, f"{name}_targets")

    def size(self, name: str) -> int:
        """Count the samples of a split."""
        targets = self.split(name)[1]
        return len(targets[0] if isinstance(targets, tuple) else targets)

    def limited(self, limit: int | None) -> "Data":
        """Keep the first ``limit`` samples for training and for validation; all if None."""
        if limit is None:
            return self
        names = [f"{part}_{what}" for part in ("train", "val") for what in ("inputs", "targets")]
        return replace(self, **{name: rows(getattr(self, name), slice(limit)) for name in names})


def rows(samples: Any, index: Any) -> Any:
    """Rows of samples: of an array, or of every core of states.

    Examples
    --------
    >>> rows(np.arange(5), slice(2))
    array([0, 1])
    """
    if isinstance(samples, tuple):
        return tuple(core[index] for core in samples)
    return samples[index]


@dataclass(frozen=True)
class Experiment:
    """A data set, a model for it, and the configuration they were tuned with.

    The configuration stands in ``configs/NAME.toml``; its table ``quick`` holds what a trial of
    less than a minute changes.

    Attributes
    ----------
    name : str
        As typed: ``ftnn train NAME``.
    description : str
        One line.
    load : callable
        Maps a Config to Data; applies ``config.limit`` by :meth:`Data.limited` if it is used.
    build : callable
        Maps a Config and Data to an encoder, fitted to the training images, and a model; the
        encoder is None where the inputs are states.
    samples : str
        What a sample is called, in the plural.
    score : Score
        ACCURACY for labels, ERROR for states.
    unused : tuple of str
        Fields of Config that this experiment has no use for.
    layers_only : tuple of str
        Fields that it has no use for at depth 0.
    augment : callable, optional
        Maps training images (n, H, W) and a numpy Generator to images; used if ``config.augment``.
    augment_states : callable, optional
        Maps encoded images, cores (batch, left, phys, right), and a numpy Generator to cores,
        likewise.
    carry : callable, optional
        Maps the model that ``config.start`` names and the one built for this run to the one to
        train. Without it the arrays of both must have the same names and shapes.
    stages : callable, optional
        Maps a Config to those of two runs, or to None if one is enough: of one to begin with, and
        of one that starts with its model.
    conclude : callable, optional
        Called with the folder, the Config, the Data and the evaluation of the test set at the end
        of a run; returns more for ``summary.json`` and may draw figures into the folder.
    """

    name: str
    description: str
    load: Callable[[Config], Data]
    build: Callable[[Config, Data], tuple[Any, "Layer"]]
    samples: str = "images"
    score: Score = ACCURACY
    unused: tuple[str, ...] = ()
    layers_only: tuple[str, ...] = LAYERS_ONLY
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    augment_states: Callable[[Any, np.random.Generator], Any] | None = None
    carry: "Callable[[Layer, Layer], Layer] | None" = None
    stages: Callable[[Config], tuple[Config, Config] | None] | None = None
    conclude: Callable[[Path, Config, Data, Any], dict[str, Any]] | None = None

    @property
    def augments(self) -> bool:
        """Whether there is any augmentation."""
        return self.augment is not None or self.augment_states is not None

    @property
    def file(self) -> Path:
        """TOML file with the configuration."""
        return Path(__file__).parent / "configs" / f"{self.name}.toml"

    @property
    def defaults(self) -> Config:
        """The configuration the experiment was tuned with."""
        return self.configured()

    def configured(self, quick: bool = False) -> Config:
        """Read the configuration of the whole experiment, or of a quick trial."""
        return resolve(Config(), self.file, quick=quick)

    def check(self, config: Config) -> None:
        """Raise ``ValueError`` if ``config`` asks for what this experiment does not have."""
        if config.augment and not self.augments:
            raise ValueError(f"augment is True, but experiment {self.name} has no augmentation")
        given, defaults = config.to_dict(), self.defaults.to_dict()
        without_use = [(name, "") for name in self.unused]
        if config.depth == 0:
            without_use += [(name, " at depth 0") for name in self.layers_only]
        if self.stages is not None and self.stages(config) is None:
            where = f" with sites {config.sites} and fine_epochs {config.fine_epochs}"
            without_use += [("fine_epochs", where)] if config.fine_epochs else []
            without_use.append(("fine_lr", where))
        for name, where in without_use:
            if given[name] != defaults[name]:
                raise ValueError(
                    f"{name} is {given[name]!r}, but experiment {self.name}{where} has no use "
                    "for it; leave it out"
                )


def resolve(
    defaults: Config,
    file: Path | str | None = None,
    flags: Mapping[str, Any] | None = None,
    quick: bool = False,
) -> Config:
    """Resolve the configuration of a run: defaults, then a TOML file, then flags.

    Parameters
    ----------
    defaults : Config
    file : path, optional
        TOML file with fields of :class:`Config` at its top level, and in its table ``quick``
        those that ``quick`` changes.
    flags : mapping, optional
        Fields by name; those that are None were not given.
    quick : bool
        Take up the table ``quick`` of the file.

    Returns
    -------
    Config

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        For an unknown key, a wrong type or a wrong value; file and key are named.
    """
    config = defaults
    if file is not None:
        values = read_toml(file)
        changes = values.pop("quick", {})
        if not isinstance(changes, dict):
            raise ValueError(f"{file}: quick is {changes!r}, expected a table [quick]")
        config = _replaced(config, values, where=f"{file}: ")
        changed = _replaced(config, changes, where=f"{file}: [quick] ")
        config = changed if quick else config
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return _replaced(config, given, where="")


def read_toml(file: Path | str) -> dict[str, Any]:
    """Contents of a TOML file, or one clear error that names the file."""
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"--config {file}: there is no such file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a TOML file: {error}") from None


def from_dict(values: Mapping[str, Any], where: str) -> Config:
    """Read what :meth:`Config.to_dict` saved; ``where`` names its source in errors."""
    return _replaced(Config(), values, where=f"{where}: ")


def _replaced(config: Config, values: Mapping[str, Any], where: str) -> Config:
    known = [option.name for option in fields(Config)]
    for key in values:
        if key not in known:
            raise ValueError(f"{where}unknown key {key!r}, expected one of {', '.join(known)}")
    try:
        return replace(config, **values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}{error}") from None
