"""Changes under which a claim of chapter 15 must fall."""

RISES = "The importance-weighted bound rises with the number of draws, from the ELBO on."
WEIGHTS = "The weights of `model.draw` are those of the formula."
EFFECTIVE = "Images of which few draws count have a large gap between ELBO and log p(x)."
BETA = "By the ELBO of all test images, β = 1 is better than β = 0.5 and than β = 2."
ROWS = (
    "Blocks of neighbouring test images differ more than blocks chosen at random: the standard "
    "error over images is too small for them."
)
MISTAKES = (
    "A decoded mean and rounded images flatter the model, and draws from the prior make it look "
    "worse, by more than three standard errors each."
)

REFUTATIONS = [
    {
        "claim": RISES,
        "says": "The logarithms of the weights are averaged instead of the weights.",
        "change": (
            "(groups.logsumexp(dim=1) - math.log(K)).mean(dim=0)",
            "groups.mean(dim=1).mean(dim=0)",
        ),
        "falls": "assert (bounds.diff() > 0).all()",
    },
    {
        "claim": WEIGHTS,
        "says": "The standard deviation is taken to be the variance.",
        "change": ("q = Normal(mean, (log_var / 2).exp())", "q = Normal(mean, log_var.exp())"),
        "falls": "assert torch.allclose(ours, theirs",
    },
    {
        "claim": WEIGHTS,
        "says": "The prior is forgotten.",
        "change": ("return fit + prior - q.log_prob", "return fit - q.log_prob"),
        "falls": "assert torch.allclose(ours, theirs",
    },
    {
        "claim": EFFECTIVE,
        "says": "The sum of squared shares is not inverted.",
        "change": (
            "effective = 1 / share.square().sum(dim=0)",
            "effective = share.square().sum(dim=0)",
        ),
        "falls": "assert related < -0.3",
    },
    {
        "claim": BETA,
        "says": "Each model is judged by the β that trained it.",
        "change": (
            "beta: terms_of(family[beta], everything) for",
            "beta: vb.NegativeELBO(beta=beta)(family[beta].requires_grad_(False), everything) for",
        ),
        "falls": "assert data.stand_in or all(means[beta]",
    },
    {
        "claim": ROWS,
        "says": "The test images are shuffled before they are cut into blocks.",
        "change": (
            "elbos = -terms.loss.cpu().double()",
            "elbos = -terms.loss.cpu().double()[torch.randperm(len(terms.loss))]",
        ),
        "falls": "assert data.stand_in or wider > 1.5",
    },
    {
        "claim": MISTAKES,
        "says": "The mean is not decoded, a draw is.",
        "change": (
            "model.decode(mean), x)",
            "model.decode(model.reparameterize(mean, log_var)), x)",
        ),
        "falls": 'assert data.stand_in or low["mean code',
    },
    {
        "claim": MISTAKES,
        "says": "The images are tossed anew instead of rounded.",
        "change": ("(grey_x > 0.5).float()", "torch.bernoulli(grey_x)"),
        "falls": 'assert data.stand_in or low["rounded',
    },
    {
        "claim": MISTAKES,
        "says": "The draws come from the encoder, not from the prior.",
        "change": (
            "log_p_by_prior(model, x) - honest",
            "vb.importance_bound(many_log_weights(model, x)) - honest",
        ),
        "falls": 'assert data.stand_in or high["draws from the prior"]',
    },
]

NEUTRAL = [
    {
        "says": "The effective numbers are computed in another order.",
        "change": (
            "effective = 1 / share.square().sum(dim=0)",
            "effective = share.pow(2).sum(dim=0).reciprocal()",
        ),
        "holds": "assert related < -0.3",
    },
    {
        "says": "The ELBO is drawn with another seed.",
        "change": (
            "torch.manual_seed(0)\n    return vb.NegativeELBO()",
            "torch.manual_seed(7)\n    return vb.NegativeELBO()",
        ),
        "holds": "assert data.stand_in or all(means[beta]",
    },
]
