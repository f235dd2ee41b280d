"""Changes under which a claim of chapter 5 must fall."""

BAYES = (
    "For a linear decoder, evidence and posterior have formulas that fulfil Bayes' rule at every "
    "image and every code."
)
OPTIMUM = (
    "The formula of probabilistic PCA gives the highest average log p(x) that a linear decoder can "
    "reach; models nearby are worse."
)
IDENTITY = (
    "Evidence, ELBO and KL to the posterior of a linear VAE are computed separately, and for every "
    "image the first is the sum of the others."
)
ESTIMATE = (
    "The loss that training sees, from one draw of each code, is on average the exact negative "
    "ELBO."
)
TRAINING = (
    "From three seeds, training brings the ELBO of a linear VAE within 0.05 nats of the best "
    "possible log p(x)."
)
AXES = (
    "Turning the latent axes leaves log p(x) as it is. It costs the ELBO half of what log det M "
    "falls short of the sum of the logarithms of M's diagonal."
)

REFUTATIONS = [
    {
        "claim": BAYES,
        "says": "The posterior's covariance forgets the noise's variance.",
        "change": (
            "return evidence, MultivariateNormal(mean, variance * torch.linalg.inv(M))",
            "return evidence, MultivariateNormal(mean, torch.linalg.inv(M))",
        ),
        "falls": "assert error < 1e-8",
    },
    {
        "claim": BAYES,
        "says": "The standard deviation of the pixels is taken for their variance.",
        "change": ("variance = model.likelihood.sigma ** 2", "variance = model.likelihood.sigma"),
        "falls": "assert error < 1e-8",
    },
    {
        "claim": OPTIMUM,
        "says": "The noise is the mean of all eigenvalues, not of those left out.",
        "change": ("eigenvalues[latent_dim:].mean()", "eigenvalues.mean()"),
        "falls": "assert abs(here - optimum) < 1e-8",
    },
    {
        "claim": OPTIMUM,
        "says": "The noise is not subtracted from the eigenvalues that are kept.",
        "change": ("(kept - noise).sqrt()", "kept.sqrt()"),
        "falls": "assert abs(here - optimum) < 1e-8",
    },
    {
        "claim": OPTIMUM,
        "says": "The second and third principal components are kept, instead of the first two.",
        "change": (
            "eigenvalues.flip(0), directions.flip(1)",
            "eigenvalues.flip(0).roll(-1, 0), directions.flip(1).roll(-1, 1)",
        ),
        "falls": "assert max(nearby) < here",
    },
    {
        "claim": IDENTITY,
        "says": "The ELBO takes the standard deviations of the code for its variances.",
        "change": ("spread = log_var.exp() @", "spread = (0.5 * log_var).exp() @"),
        "falls": "assert untrained < 1e-8",
    },
    {
        "claim": IDENTITY,
        "says": "The two distributions in the KL are exchanged.",
        "change": (
            "return log_p, exact_elbo(model, x), kl_divergence(q, posterior)",
            "return log_p, exact_elbo(model, x), kl_divergence(posterior, q)",
        ),
        "falls": "assert untrained < 1e-8",
    },
    {
        "claim": ESTIMATE,
        "says": "The objective weighs the KL by 0.95.",
        "change": ("-vb.NegativeELBO()(model, x).loss", "-vb.NegativeELBO(0.95)(model, x).loss"),
        "falls": "assert abs(off) < 4 * standard_error",
    },
    {
        "claim": TRAINING,
        "says": "Training stops after 200 epochs.",
        "change": ("epochs=800", "epochs=200"),
        "falls": 'assert results["below the optimum"]',
    },
    {
        "claim": AXES,
        "says": "The matrix that should turn the axes has a wrong sign, and stretches them.",
        "change": ("[[c, -s], [s, c]]", "[[c, -s], [-s, c]]"),
        "falls": "assert np.ptp(evidences) < 1e-8",
    },
    {
        "claim": AXES,
        "says": "The formula of the gap takes the trace's logarithm for the sum of logarithms.",
        "change": ("gram(W).diag().log().sum()", "gram(W).diag().sum().log()"),
        "falls": "assert np.abs(searched - formula)",
    },
]

NEUTRAL = [
    {
        "says": "The posterior's mean is computed with the inverse instead of solving for it.",
        "change": (
            "torch.linalg.solve(M, W.T @ (x.flatten(1) - b).T).T",
            "(x.flatten(1) - b) @ W @ torch.linalg.inv(M)",
        ),
        "holds": "assert error < 1e-8",
    },
]
