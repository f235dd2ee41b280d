"""Changes under which a claim of chapter 15 must fall."""

MEAN = "The bound averages the weights, not their logarithms."
RISES = "The bound rises by nats above the ELBO, and still rises at 5,000 draws."
WEIGHTS = "The weights of `model.draw` are those of the formula."
EFFECTIVE = "Images of which few draws count tend to have a large gap between ELBO and log p(x)."
BETA = "By the ELBO of all test images, β = 1 is better than β = 0.5 and than β = 2."
ROWS = (
    "Blocks of neighbouring test images differ more than blocks chosen at random: the standard "
    "error over images is too small for them."
)
LUCK = "The luckiest of twenty blocks of neighbours gains more than the luckiest at random."
ELBO = "The ELBO taken for log p(x) makes the model look worse by the whole gap."
GREY = "Grey images make the model look worse than the ELBO of tossed images does."
BATCH_NORM = "Batch norm left in training mode makes the convolutional model look worse."
ENCODER = "More of the gap is the encoder's than is left to the shape of the Gaussian."
MISTAKES = (
    "A decoded mean and rounded images flatter the model, and draws from the prior make it look "
    "worse, by more than three standard errors each."
)

REFUTATIONS = [
    {
        "claim": MEAN,
        "says": "The logarithms of the weights are averaged instead of the weights.",
        "change": (
            "(groups.logsumexp(dim=1) - math.log(K)).mean(dim=0)",
            "groups.mean(dim=1).mean(dim=0)",
        ),
        "falls": "assert torch.allclose(bound(weights, 5000)",
    },
    {
        "claim": RISES,
        "says": "The same fifty draws are taken a hundred times.",
        "change": (
            "[model.draw(x, 50).log_weights.cpu() for _ in range(samples // 50)]",
            "[model.draw(x, 50).log_weights.cpu()] * (samples // 50)",
        ),
        "falls": "assert data.stand_in or (rises[2] > 0.2",
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
        "falls": "assert related < -0.2",
    },
    {
        "claim": BETA,
        "says": "Each model is judged by the β that trained it.",
        "change": (
            "beta: terms_of(family[beta], everything) for",
            "beta: vb.NegativeELBO(beta=beta)(family[beta].requires_grad_(False), everything) for",
        ),
        "falls": "assert data.stand_in or all(means[name]",
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
        "claim": LUCK,
        "says": "The unluckiest block is taken.",
        "change": ("blocks[off.argmax()]", "blocks[off.argmin()]"),
        "falls": 'assert data.stand_in or errors["luckiest',
    },
    {
        "claim": ELBO,
        "says": "The bound with five draws is taken for the ELBO.",
        "change": (
            'errors["ELBO taken for log p(x)"] = weights.mean(dim=0)',
            'errors["ELBO taken for log p(x)"] = bound(weights, 5)',
        ),
        "falls": 'assert abs(sizes.error["ELBO taken',
    },
    {
        "claim": GREY,
        "says": "The images are black and white.",
        "change": ("-terms_of(model, grey_x)", "-terms_of(model, x)"),
        "falls": "assert data.stand_in or lost.mean() > 3 * lost_error",
    },
    {
        "claim": BATCH_NORM,
        "says": "Batch norm is left in evaluation mode.",
        "change": ("in_eights(conv.train())", "in_eights(conv.eval())"),
        "falls": 'assert data.stand_in or high["batch norm',
    },
    {
        "claim": ENCODER,
        "says": "Ten steps improve the encoder's answers, not three hundred.",
        "change": ("for _ in range(300):", "for _ in range(10):"),
        "falls": "assert data.stand_in or own.mean()",
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
            "log_p_by_prior(model, x) - reference",
            "vb.importance_bound(many_log_weights(model, x)) - reference",
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
        "holds": "assert related < -0.2",
    },
    {
        "says": "The ELBO is drawn with another seed.",
        "change": (
            "torch.manual_seed(0)\n    return vb.NegativeELBO()",
            "torch.manual_seed(7)\n    return vb.NegativeELBO()",
        ),
        "holds": "assert data.stand_in or all(means[name]",
    },
]
