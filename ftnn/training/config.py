"""TrainConfig: the training configuration."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from .options import Options, option
from .schedule import EXAMPLE, text_of


@dataclass(frozen=True)
class TrainConfig(Options):
    """Training configuration; every field is checked when the object is created.

    Attributes
    ----------
    epochs : int
        Passes over the training samples.
    batch_size : int
        Largest number of samples in a step; the batches of an epoch differ by at most one.
    lr : float
        Learning rate, the largest of the schedule.
    linear_lr : float
        Learning rate of the weights of :class:`ftnn.Linear` layers, as a fraction of ``lr``. Longer
        chains need smaller values: a step changes every site, and the changes multiply.
    weight_decay : float
    optimizer : {"adamw", "adam", "sgd"}
        "sgd" has momentum 0.9.
    schedule : {"cosine", "onecycle", "constant"}
        Course of the learning rate over all steps; "cosine" and "onecycle" end near zero.
    warmup : float
        Fraction of all steps, in [0, 1), in which the learning rate rises.
    clip_norm : float, optional
        Gradients are clipped to this norm; None or 0 disables clipping.
    label_smoothing : float
        In [0, 1); applies to the training loss only.
    ema_decay : float
        Decay, in [0, 1), of an exponential moving average of the weights; 0 disables it. If
        enabled, the averaged weights are the ones evaluated and saved as the model.
    grow : str, optional
        When and how the model grows while it trains: events, as a text or as tables; see
        :func:`ftnn.training.schedule.schedule`.
    seed : int
        Seed of the order of the samples, augmentation, and random draws of layers: torch's global
        generator is seeded before every step.
    device : str
        "cpu", "cuda", "cuda:1", ..., or "auto" for CUDA where available.
    dtype : {"float32", "float64", "complex64", "complex128"}
        Of weights and states; complex ones train complex models.
    patience : int, optional
        Stop after this many epochs without a better validation result; None or 0 disables it.
    threads : int, optional
        CPU threads of torch during training; None or 0 leaves the setting unchanged.
    checkpoint_seconds : float
        Checkpoint also within an epoch when the last one is older than this; 0 disables it.
    compile : bool
        Train through :func:`torch.compile`. The first step with each batch size, of which there are
        at most two, takes a minute or two; later ones are faster.
    recompute : bool
        Recompute intermediate results in the backward pass: about half of the memory, a quarter
        more time. See :class:`ftnn.Sequential`.

    Raises
    ------
    TypeError, ValueError
        With the field, the value, what was expected, and the remedy.

    Examples
    --------
    >>> TrainConfig(epochs=3, lr=1e-2).schedule
    'cosine'
    >>> TrainConfig(lr=-1.0)
    Traceback (most recent call last):
        ...
    ValueError: lr is -1.0, expected a number > 0; try 1e-2
    """

    title: ClassVar[str] = "Training"

    epochs: int = option(20, "Passes over the training data.", least=1, remedy="try 20")
    batch_size: int = option(64, "Samples in one update.", least=1, remedy="try 64")
    lr: float = option(1e-2, "Peak learning rate.", above=0.0, remedy="try 1e-2")
    linear_lr: float = option(
        1.0,
        "Learning rate of the weights of Linear layers, as a fraction of lr.",
        above=0.0,
        remedy="1 treats all weights alike",
    )
    weight_decay: float = option(0.0, "Decoupled weight decay.", least=0.0, remedy="0 is off")
    optimizer: Literal["adamw", "adam", "sgd"] = option("adamw", "Torch optimizer.")
    schedule: Literal["cosine", "onecycle", "constant"] = option(
        "cosine", "Learning rate schedule."
    )
    warmup: float = option(
        0.1,
        "Fraction of the updates in which the learning rate rises.",
        least=0.0,
        below=1.0,
        remedy="0 is off",
    )
    clip_norm: float | None = option(
        None, "Clip the gradient to this norm; 0 is off.", least=0.0, remedy="0 is off"
    )
    label_smoothing: float = option(
        0.0,
        "Label smoothing of the cross entropy.",
        least=0.0,
        below=1.0,
        remedy="0 is off",
    )
    ema_decay: float = option(
        0.0,
        "Decay of the running average of the weights; 0 disables it.",
        least=0.0,
        below=1.0,
        remedy="0 is off",
    )
    patience: int | None = option(
        None,
        "Stop after this many epochs without a better validation result; 0 disables it.",
        least=0,
        remedy="0 is off",
        free=True,
    )
    grow: str | None = option(
        None, f"When and how the model grows, such as '{EXAMPLE}'.", read=text_of
    )
    seed: int = option(
        0,
        "Seed of the split, the weights and the batches.",
        least=0,
        below=2**32,
        remedy="any such integer gives a reproducible run",
    )
    device: str = option("cpu", "Torch device: auto, cpu, cuda or cuda:N.", free=True)
    dtype: Literal["float32", "float64", "complex64", "complex128"] = option(
        "float32", "Type of weights and states in training."
    )
    threads: int | None = option(
        None,
        "CPU threads of torch; 0 leaves the setting unchanged.",
        least=0,
        remedy="0 leaves the setting of torch unchanged",
        free=True,
    )
    checkpoint_seconds: float = option(
        0.0,
        "Checkpoint within an epoch after this many seconds; 0 disables it.",
        least=0.0,
        remedy="0 is off",
        free=True,
    )
    compile: bool = option(
        False,
        "Train through torch.compile: the first step takes minutes, later ones are faster.",
        free=True,
    )
    recompute: bool = option(
        False, "Recompute activations in the backward pass: less memory, slower.", free=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)
        if self.compile and self.recompute:
            raise ValueError(
                "compile and recompute are both True; choose one: the compiler itself decides "
                "what to recompute"
            )


def check_device(device: str) -> None:
    """Raise ``ValueError`` unless ``device`` names a device, available or not."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise ValueError(f"device is {device!r}; choose one of auto, cpu, cuda, cuda:N")
