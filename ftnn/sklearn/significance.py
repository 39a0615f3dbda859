"""Does training pay? A test by held-out samples of cross-validation, without selection bias."""

import numpy as np

STANDARD_ERRORS = 2.0
"""By how many standard errors what is more than linear must be better."""


def pays(gains: np.ndarray, trained_on: int) -> bool:
    r"""Return whether held-out samples gain, by more than two standard errors of the mean.

    Parameters
    ----------
    gains : array (n,)
        Decrease of the loss of every held-out sample, pooled over folds. What is compared must not
        have been chosen by these samples, see :func:`cross_fitted_gains`.
    trained_on : int
        Samples that the models of one fold were fitted to.

    Notes
    -----
    The error of the mean is not :math:`s / \sqrt n`, with s the standard deviation of the n gains.
    All samples of a fold are judged by the same two models, and the models of two folds were fitted
    to mostly the same samples. With J folds of m samples, :math:`n = J m`, whose mean gains have
    variance v and correlation :math:`\rho`,

    .. math:: \mathrm{Var}(\text{mean}) = v \, \frac{1 + (J - 1) \rho}{J}
        = S^2 \Big(\frac 1 J + \frac{\rho}{1 - \rho}\Big),

    where :math:`S^2 = v (1 - \rho)` is the expected sample variance of the J means, which is
    :math:`s^2 / m` if the samples of a fold differ as much as those of different folds. No estimate
    of :math:`\rho` from one cross-validation is unbiased (Bengio and Grandvalet, JMLR 5, 1089,
    2004). Nadeau and Bengio (Machine Learning 52, 239, 2003) take the share of the held-out
    samples, :math:`\rho = m / (m + t)` with t samples trained on. Then
    :math:`\rho / (1 - \rho) = m / t`, and

    .. math:: \mathrm{Var}(\text{mean}) = s^2 \Big(\frac 1 n + \frac 1 t\Big),

    which is 9/4 of :math:`s^2 / n` for five folds, and twice as much for leaving one out.

    Examples
    --------
    >>> gains = np.array([1.0, -0.5] * 50)
    >>> pays(gains, trained_on=100), pays(gains, trained_on=20)
    (True, False)
    """
    error = gains.std(ddof=1) * np.sqrt(1.0 / len(gains) + 1.0 / trained_on)
    return bool(gains.mean() > STANDARD_ERRORS * error)


def cross_fitted_gains(losses: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the gains of held-out samples by the number of epochs that other samples choose.

    The least of many mean losses is too small, as the samples that it is the mean of have chosen
    it: of several numbers of epochs, none better than no training in truth, one looks better. So
    the samples are halved, each half is judged at the number of epochs with the least mean loss of
    the other half: no sample takes part in the choice that it judges. (Folds share samples to train
    on, which leaves a little dependence between the halves of different folds.)

    Parameters
    ----------
    losses : array (epochs + 1, n)
        Of held-out samples, without training in row 0.
    halves : bool array (n,)

    Returns
    -------
    array (n,)

    Examples
    --------
    >>> losses = np.array([[2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]])
    >>> cross_fitted_gains(losses, np.array([True, True, False, False])).tolist()
    [0.0, 0.0, -1.0, -1.0]
    """
    gains = np.empty(losses.shape[1])
    for half in (halves, ~halves):
        epochs = losses[:, ~half].mean(axis=1).argmin()
        gains[half] = losses[0, half] - losses[epochs, half]
    return gains
