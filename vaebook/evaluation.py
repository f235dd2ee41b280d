"""Judging a model by more than its loss."""

from typing import Any

import numpy as np
from jaxtyping import Float

from vaebook.vae import check_count


def neighbour_accuracy(
    z: Float[np.ndarray, "images latent"], labels: Any, *, neighbours: int = 10, folds: int = 5
) -> float:
    """Return how well the nearest neighbours in latent space tell an image's class, 0 to 1.

    The share of the codes `z`, such as `embed` returns, whose class a vote of their nearest
    `neighbours` finds, each code being judged only by neighbours from the other `folds`
    (stratified, shuffled by a fixed seed). Raises a ValueError for labels of another length.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    check_count("labels", labels, len(z), "codes")
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_score(KNeighborsClassifier(neighbours), z, np.asarray(labels), cv=split)
    return float(scores.mean())
