"""How well codes tell the classes of their images."""

from typing import Any

import numpy as np
from jaxtyping import Float

from vaebook.checks import one_each


def neighbour_accuracy(
    z: Float[np.ndarray, "images latent"], labels: Any, *, neighbours: int = 10, folds: int = 5
) -> float:
    """Return how well the nearest neighbours in latent space tell an image's class, 0 to 1.

    The share of the codes `z`, such as `embed` returns, whose class a vote of their nearest
    `neighbours` finds, each code being judged only by neighbours from the other `folds`
    (stratified, shuffled by a fixed seed). `labels` are class indices, one for each code: a
    ValueError for another number of them.

    >>> z = np.array([[0.0, 0.0], [9.0, 9.0]]).repeat(10, axis=0)
    >>> neighbour_accuracy(z, [0] * 10 + [1] * 10, neighbours=3)
    1.0
    """
    from sklearn.neighbors import KNeighborsClassifier

    return _cross_validated(KNeighborsClassifier(neighbours), z, labels, folds)


def linear_accuracy(z: Float[np.ndarray, "images latent"], labels: Any, *, folds: int = 5) -> float:
    """Return how well a linear classifier of codes tells an image's class, 0 to 1.

    The linear probe of Alain & Bengio 2017: as `neighbour_accuracy`, of codes `z` and their
    `labels`, by a logistic regression that was fitted to the codes of the other `folds`.

    >>> z = np.array([[0.0, 0.0], [9.0, 9.0]]).repeat(10, axis=0)
    >>> linear_accuracy(z, [0] * 10 + [1] * 10)
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _cross_validated(probe, z, labels, folds)


def _cross_validated(classifier: Any, z: Any, labels: Any, folds: int) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    one_each("labels", labels, len(z), "codes")
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, z, np.asarray(labels), cv=split).mean())
