"""Judging a model by more than its loss."""

from typing import Any

import numpy as np
from jaxtyping import Float


def neighbour_accuracy(
    z: Float[np.ndarray, "images latent"], labels: Any, *, neighbours: int = 10, folds: int = 5
) -> float:
    """Return how well the nearest neighbours in latent space tell an image's class.

    The share of images whose class a vote of their nearest neighbours finds, each image being
    judged only by neighbours from other folds (stratified, shuffled by a fixed seed).

    Parameters
    ----------
    z
        Codes, such as `embed` returns.
    labels
        Class indices, one for each code.
    neighbours, folds
        How many vote, and into how many parts the codes are split.

    Raises
    ------
    ValueError
        For labels of another length.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    labels = np.asarray(labels)
    if len(labels) != len(z):
        raise ValueError(f"labels: expected one for each of {len(z)} codes, got {len(labels)}")
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_score(KNeighborsClassifier(neighbours), z, labels, cv=split)
    return float(scores.mean())
