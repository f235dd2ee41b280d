"""Judging a model by more than its loss."""

from vaebook.evaluation import fidelity
from vaebook.evaluation.diagnosis import Diagnosis, diagnose, kl_per_level
from vaebook.evaluation.likelihood import (
    LogLikelihood,
    bernoulli_floor,
    bits_per_dimension,
    log_likelihood,
)
from vaebook.evaluation.probes import linear_accuracy, neighbour_accuracy

__all__ = [
    "Diagnosis", "LogLikelihood", "bernoulli_floor", "bits_per_dimension", "diagnose", "fidelity",
    "kl_per_level", "linear_accuracy", "log_likelihood", "neighbour_accuracy",
]  # fmt: skip
