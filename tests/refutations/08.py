"""Changes under which a claim of chapter 8 must fall."""

REFUTATIONS = [
    {
        "claim": "The score function and the pathwise estimator both have the exact gradient as "
        "their mean.",
        "says": "The score function's draw is not detached, so that its path counts as well.",
        "change": (
            "z = (mean + std * noise).detach()  # a draw: no gradient passes",
            "z = mean + std * noise",
        ),
        "falls": 'assert ((eight["mean"] - 2).abs()',
    },
    {
        "claim": "The score function and the pathwise estimator both have the exact gradient as "
        "their mean.",
        "says": "The density is given the variance in place of the standard deviation.",
        "change": ("log_q = Normal(mean, std)", "log_q = Normal(mean, std**2)"),
        "falls": 'assert ((eight["mean"] - 2).abs()',
    },
    {
        "claim": "The variances of the three estimators of the gradient of E‖z‖² have the closed "
        "forms that the chapter gives.",
        "says": "One term of the formula for the estimator with a baseline counts one dimension "
        "fewer.",
        "change": ('"baseline": 4 * (d + 1)', '"baseline": 4 * d'),
        "falls": "assert np.allclose(variance, theory",
    },
    {
        "claim": "The variances of the three estimators of the gradient of E‖z‖² have the closed "
        "forms that the chapter gives.",
        "says": "The baseline is E f without the part of σ.",
        "change": ("dim * (1 + std**2)", "dim"),
        "falls": "assert np.allclose(variance, theory",
    },
    {
        "claim": "As σ goes to 0, the variance of the pathwise estimator falls like σ², with a "
        "baseline that of the score function stays, and without a baseline it grows like 1/σ².",
        "says": "The baseline is E f at σ = 1, whatever σ is.",
        "change": ("dim * (1 + std**2)", "dim * 2"),
        "falls": "assert np.allclose(powers",
    },
    {
        "claim": "For a step the score function finds the derivative that the path misses.",
        "says": "The path takes the place of the score function.",
        "change": (
            "by_score = mean_and_error(score_function(step",
            "by_score = mean_and_error(pathwise(step",
        ),
        "falls": 'assert abs(by_score["mean"] - truth)',
    },
    {
        "claim": "The score function as an objective gives the encoder of a VAE its exact gradient "
        "on average.",
        "says": "The half before the log-variance is missing.",
        "change": (
            "q = Normal(mean, torch.exp(0.5 * log_var))\n    z = q.sample()  #",
            "q = Normal(mean, torch.exp(log_var))\n    z = q.sample()  #",
        ),
        "falls": 'assert ((averages["encoder"] - 1).abs()',
    },
    {
        "claim": "The score function as an objective gives the encoder of a VAE its exact gradient "
        "on average.",
        "says": "The codes are drawn with rsample, so that the path counts as well.",
        "change": ("z = q.sample()  #", "z = q.rsample()  #"),
        "falls": 'assert ((averages["encoder"] - 1).abs()',
    },
    {
        "claim": "The score function as an objective gives the encoder of a VAE its exact gradient "
        "on average.",
        "says": "The loss lacks the KL.",
        "change": (
            "score = cost * q.log_prob(z).sum(dim=1)\n    return Terms(reconstruction + kl",
            "score = cost * q.log_prob(z).sum(dim=1)\n    return Terms(reconstruction",
        ),
        "falls": "assert torch.allclose(terms.loss",
    },
    {
        "claim": "All objectives give the decoder the exact gradient on average.",
        "says": "The cost that weights the score is not detached.",
        "change": ("cost = reconstruction.detach()", "cost = reconstruction"),
        "falls": 'assert ((averages["decoder"] - 1).abs()',
    },
    {
        "claim": "The same VAE, trained by the score function at its best learning rate, ends "
        "behind the one that the path trains, in each of three seeds.",
        "says": "The loop is given the same objective whatever the estimator's name.",
        "change": ("objective=objectives[name]", "objective=vb.NegativeELBO()"),
        "falls": 'most["pathwise"] < least["baseline"]',
    },
    {
        "claim": "Averaged over four draws in place of one, with all else the same, the score "
        "function with a baseline ends closer to the path, in each of three seeds.",
        "says": "One draw stands in place of four.",
        "change": ("def four_draws(model, x, draws=4)", "def four_draws(model, x, draws=1)"),
        "falls": "max(quieter) < one_draw.min()",
    },
    {
        "claim": "A baseline that includes the draw's own value makes the expected gradient too "
        "small by the factor 1 − 1/n; the mean over the others does not.",
        "says": "The mean over the others is divided by the number of all.",
        "change": ("keepdim=True) - f) / 3", "keepdim=True)) / 4"),
        "falls": 'assert abs(honest["mean"] - 2)',
    },
    {
        "claim": "For a cosine of high frequency the path has the larger variance.",
        "says": "The frequency is left out of the function.",
        "change": ("torch.cos(omega * z)", "torch.cos(z)"),
        "falls": 'assert np.allclose(waves["pathwise"]',
    },
]

NEUTRAL = [
    {
        "says": "The factors of the surrogate change places.",
        "change": ("(f(z) - baseline) * log_q", "log_q * (f(z) - baseline)"),
        "holds": 'assert ((eight["mean"] - 2).abs()',
    },
    {
        "says": "The sum over the other images is divided by a method in place of an operator.",
        "change": (
            "(cost.sum() - cost) / (len(cost) - 1)",
            "(cost.sum() - cost).div(len(cost) - 1)",
        ),
        "holds": 'assert ((averages["encoder"] - 1).abs()',
    },
]
