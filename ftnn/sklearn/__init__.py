"""scikit-learn estimators: tensor networks for tables.

>>> from ftnn.sklearn import TensorNetworkClassifier, TensorNetworkRegressor
"""

from .estimators import TensorNetworkClassifier, TensorNetworkRegressor

__all__ = ["TensorNetworkClassifier", "TensorNetworkRegressor"]
