"""Priors that are fitted to codes: better places to draw from, for a model that is trained already.

Each has ``fit(z)``, which returns the prior itself, and ``sample(n)``; all but `FlowMatching` have
``log_prob(z)`` in nats. They take part in ``model.sample(prior=…)`` and
``vb.log_likelihood(prior=…)``. A fit that fails leaves the last one.
"""

from vaebook.priors.fitted import FlowMatching, Mixture, SplineFlow, Subspace
from vaebook.priors.words import Autoregressive

__all__ = ["Autoregressive", "FlowMatching", "Mixture", "SplineFlow", "Subspace"]
