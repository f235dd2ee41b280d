"""Changes under which a claim of chapter 3 must fall."""

REFUTATIONS = [
    {
        "claim": "Trained without the KL, a model redraws held-out images better, for every seed.",
        "says": "The weight β is never handed to the loss.",
        "change": ("vb.NegativeELBO(beta)", "vb.NegativeELBO()"),
        "falls": "assert table.reconstruction[0].max()",
    },
    {
        "claim": "An autoencoder's negative ELBO is worse than that of a model without a code.",
        "says": "The loss that was trained is reported as the negative ELBO.",
        "change": ('row["reconstruction"] + row["kl"]', 'row["loss"]'),
        "falls": "assert bounds[1].max() < no_code",
    },
    {
        "claim": "A trained VAE's noise is in balance: more of it or less of it raises the loss.",
        "says": "The reconstruction is averaged over the pixels instead of summed.",
        "change": ('x, reduction="sum") / len(x)', 'x, reduction="mean")'),
        "falls": 'assert losses["β = 1"].idxmin() == 1',
    },
    {
        "claim": "A trained VAE's noise is in balance: more of it or less of it raises the loss.",
        "says": "The logarithm of the standard deviation stands for that of the variance.",
        "change": ("2 * std.log()", "std.log()"),
        "falls": 'assert losses["β = 1"].idxmin() == 1',
    },
    {
        "claim": "An autoencoder's prior draws are told from its reconstructions more often than "
        "a VAE's are.",
        "says": "One and the same model is judged each time.",
        "change": ("told_apart(model, draws) for run", "told_apart(models[1], draws) for run"),
        "falls": "assert dreams[0].min() > dreams[1].max() + margin",
    },
    {
        "claim": "More prior draws fall into holes of an autoencoder's plane than of a VAE's.",
        "says": "The posteriors' own widths are forgotten: each counts as one unit wide.",
        "change": ("Normal(mean, std)", "Normal(mean, torch.ones_like(std))"),
        "falls": "assert holes[0].min() > holes[1].max()",
    },
    {
        "claim": "The information of the VAE with 2 dimensions is measured; that of the others "
        "follows the ceiling log N.",
        "says": "The number of images is not varied: 100 are used each time.",
        "change": ("groups = [train[i : i + count]", "groups = [train[i : i + 100]"),
        "falls": "assert kept.drop(",
    },
    {
        "claim": "The least that an autoencoder's misfit can be exceeds the most that a VAE's "
        "can be.",
        "says": "Draws from the prior stand in for the codes of the images.",
        "change": (
            "moments_misfit(vb.sample_posterior(model, train))",
            "moments_misfit(vb.sample_prior(model, len(train)))",
        ),
        "falls": 'assert limits.loc[dims, 0]["at least"].min()',
    },
    {
        "claim": "A normal distribution fitted to its codes makes an autoencoder's draws harder "
        "to recognize.",
        "says": "The draws are moved to the codes' mean, but not stretched to their covariance.",
        "change": (
            "vb.sample_prior(model, n, seed=1) @ scale.T",
            "vb.sample_prior(model, n, seed=1)",
        ),
        "falls": "assert (fitted[0] < dreams[0] - margin).all()",
    },
    {
        "claim": "Ten normal distributions describe an autoencoder's codes better than one does.",
        "says": "The mixture has a single component.",
        "change": ("components=10", "components=1"),
        "falls": "assert share < fitted[0, 0] - margin",
    },
]
NEUTRAL = [
    {
        "says": "Reconstructions come first and draws second.",
        "change": (
            "torch.cat([vb.decode(model, codes), redrawn])",
            "torch.cat([redrawn, vb.decode(model, codes)])",
        ),
        "holds": "assert dreams[0].min() > dreams[1].max() + margin",
    },
    {
        "says": "The prior's log-density is written out.",
        "change": (
            "Normal(0.0, 1.0).log_prob(z).sum(dim=1)",
            "-0.5 * (z**2 + math.log(2 * math.pi)).sum(dim=1)",
        ),
        "holds": "assert holes[0].min() > holes[1].max()",
    },
]
