"""Changes under which a claim of chapter 6 must fall."""

REFUTATIONS = [
    {
        "claim": "Under a Bernoulli loss a perfect redrawing costs the entropy of the grey pixels.",
        "says": "The entropy leaves out the term of 1 − x.",
        "change": ("torch.special.entr(x) + torch.special.entr(1 - x)", "torch.special.entr(x)"),
        "falls": "assert abs(perfect - floor)",
    },
    {
        "claim": "A grey image costs what its random black-and-white versions cost on average.",
        "says": "Pixels are rounded to black or white instead of tossed.",
        "change": ("torch.bernoulli(one.expand(", "torch.round(one.expand("),
        "falls": "assert abs(costs.mean() - grey_cost)",
    },
    {
        "claim": "A density pays back growing certainty about a black pixel without limit.",
        "says": "The constant of the continuous Bernoulli is forgotten.",
        "change": ("-ContinuousBernoulli().log_prob", "-Bernoulli().log_prob"),
        "falls": "assert (as_grey.diff() < -1).all()",
    },
    {
        "claim": "The cost of a Gaussian is lowest where σ² is the mean squared error.",
        "says": "The term D log σ is dropped, as in a plain squared error.",
        "change": ("squares / (2 * sigma**2) + constant", "squares / (2 * sigma**2)"),
        "falls": "assert abs(lowest / root_mean_square - 1)",
    },
    {
        "claim": "Unequal sums and averages hide a β, which the meter finds: 784, 49, 1/16, 1/128.",
        "says": "The KL is divided by batch and latent dimensions instead of batch and pixels.",
        "change": ("kl(mean, log_var).sum() / x.numel()", "kl(mean, log_var).sum() / mean.numel()"),
        "falls": "assert all(math.isclose(*pair)",
    },
    {
        "claim": "Each way to write the loss is a constant times the objective with its hidden β.",
        "says": "The package's objective is taken at β = 1.",
        "change": ("vb.NegativeELBO(beta=beta[loss.__name__])", "vb.NegativeELBO()"),
        "falls": "assert math.isclose(written",
    },
    {
        "claim": "A loss whose budget is below a bit collapses, with every seed.",
        "says": "Training forgets the weight of the KL.",
        "change": ("vb.NegativeELBO(beta=weight)", "vb.NegativeELBO()"),
        "falls": 'assert (scores.loc["pixels_averaged", "KL"]',
    },
    {
        "claim": "With too cheap a KL, samples from the prior come from where no image lies.",
        "says": "The codes that samples are compared with come from the prior, too.",
        "change": (
            "vb.sample_posterior(model, train[:1000])",
            "vb.sample_prior(model, 1000, seed=1)",
        ),
        "falls": 'assert (miss.loc["latents_averaged"]',
    },
]

NEUTRAL = [
    {
        "says": "The two terms of the rule are added in the other order.",
        "change": (
            "(costs + kl(mean, log_var).sum(dim=1)).mean()",
            "(kl(mean, log_var).sum(dim=1) + costs).mean()",
        ),
        "holds": "assert all(math.isclose(*pair)",
    },
]
