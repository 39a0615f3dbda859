"""documented: parameters and attributes of the estimators, described once."""

import re
from collections.abc import Callable
from textwrap import indent
from typing import TypeVar

T = TypeVar("T")
PLACE = re.compile(r"^(?P<margin> *)\{(?P<name>parameters|attributes)\}$", re.M)

SHARED = {
    "parameters": """\
bond_dim : int, optional
    Bond dimension of the network. By default 8 more than its linear start needs, which is at
    most the number of outputs plus 1.
features : {"auto", "linear", "polynomial", "fourier", "spline"}
    What a site holds of a column; see :class:`ftnn.encoding.TableEncoder`. "auto" fits with
    "linear", and takes "polynomial" where held-out samples say that its linear model is better.
degree : int, optional
    Of the features.
clip : float
    Numbers beyond this many standard deviations of their column are moved there.
feature_scale : float
    Size of all features of a sample together, beside the constant channels.
group : int
    Columns a site. Products of columns of one site are not formed.
alpha : float, optional
    Penalty of the linear start. By default {alpha}.
learning_rate : float, optional
    Of Adam, after a short warm-up. By default {learning_rate}.
pull : float
    Weight decay towards the start: a step moves the weights back by ``learning_rate * pull``
    of the way.
batch_size : int, optional
    By default a sixteenth of the samples, at least 64 and at most 512.
max_epochs : int
    0 keeps the linear start.
early_stopping : bool
    Choose the number of epochs by the pooled losses of held-out folds, then train anew on all
    samples for as many; 0 epochs where it is not clear that training pays, and with fewer than 10
    samples in a fold. False trains ``max_epochs`` on all samples. The test is that of
    ``ftnn.sklearn.significance.pays``.
validation_fraction : float
    Share of the samples in a fold; there are ``round(1 / validation_fraction)`` folds, at
    least 2. Training is tried on as many as are needed to pool 500 samples.
patience : int
    Epochs without a better validation loss after which training stops.
random_state : int, RandomState or None
    Of the folds, the order of samples and the free bonds at the start.""",
    "attributes": """\
model_ : ftnn.Readout
    The network, on NumPy.
encoder_ : ftnn.encoding.TableEncoder
    Standardizes the columns and makes product states of rows.
n_iter_ : int
    Epochs trained; 0 is the linear start.
validation_losses_ : list of float
    Mean loss of held-out samples, at the linear start and after every epoch.
n_features_in_ : int
feature_names_in_ : array of str
    If X has column names.""",
}


def documented(**defaults: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator that fills ``{parameters}`` and ``{attributes}`` in a class docstring.

    Parameters
    ----------
    **defaults : str
        Words for defaults that differ from class to class, by the name of the parameter.

    Examples
    --------
    >>> @documented()
    ... class Model:
    ...     '''Model.
    ...
    ...     {attributes}
    ...     '''
    >>> Model.__doc__.splitlines()[2].strip()
    'model_ : ftnn.Readout'
    """

    def fill(match: re.Match) -> str:
        text = SHARED[match["name"]]
        for name, words in defaults.items():
            text = text.replace(f"{{{name}}}", words)
        return indent(text, match["margin"])

    def decorate(cls: type[T]) -> type[T]:
        if cls.__doc__ is not None:  # as with python -OO
            cls.__doc__ = re.sub(
                r"^(?P<margin> *)\{(?P<name>parameters|attributes)\}$",
                fill,
                cls.__doc__,
                flags=re.M,
            )
        return cls

    return decorate
