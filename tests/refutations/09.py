"""Changes under which a claim of chapter 9 must fall."""

REFUTATIONS = [
    {
        "claim": "Without the exponential the printed loss is lower than that of correct code.",
        "says": "The broken draw gets its exponential back.",
        "change": (
            "mean + 0.5 * log_var * torch.randn",
            "mean + (0.5 * log_var).exp() * torch.randn",
        ),
        "falls": 'assert tables["no exp"].loss.max() < tables["right"].loss.min()',
    },
    {
        "claim": "Without the exponential codes tell more about their images than the KL claims.",
        "says": "The codes are drawn with the noise that the KL charges for.",
        "change": (
            "torch.cdist(model.reparameterize(mean, log_var), mean)",
            "torch.cdist(mean + (0.5 * log_var).exp() * torch.randn_like(mean), mean)",
        ),
        "falls": 'assert (tables["no exp"]["told, at least"] > tables["no exp"].kl).all()',
    },
    {
        "claim": "The honest loss of the weights trained without the exponential is higher.",
        "says": "The loss is evaluated with the broken draw still in the model.",
        "change": ('vb.evaluate(repaired, test)["loss"]', 'vb.evaluate(model, test)["loss"]'),
        "falls": 'assert tables["no exp"]["honest loss"].min()',
    },
    {
        "claim": "For correct code the honest loss is the printed loss, but for the noise.",
        "says": "The honest loss is computed on the training images.",
        "change": ("vb.evaluate(repaired, test)", "vb.evaluate(repaired, train)"),
        "falls": 'assert (tables["right"]["honest loss"] - tables["right"].loss).abs()',
    },
    {
        "claim": "A summed reconstruction and an averaged KL print a lower loss than correct code.",
        "says": "Both terms are summed.",
        "change": (
            "return reconstruction.sum() + kl.mean()",
            "return reconstruction.sum() + kl.sum()",
        ),
        "falls": 'assert tables["mixed sums"].loss.max()',
    },
    {
        "claim": "No decoder with a second sigmoid can cost less than the average picture.",
        "says": "The limit forgets that a second sigmoid gives at least one half.",
        "change": ("x.clamp(0.5, torch.tensor(1.0)", "x.clamp(0.0, torch.tensor(1.0)"),
        "falls": "assert best > guess",
    },
    {
        "claim": "In training mode batch norm harms sorted and small batches more than large ones.",
        "says": "The batches that should be sorted by class are shuffled.",
        "change": ("by_class = test.labels.argsort()", "by_class = shuffled.flip(0)"),
        "falls": 'assert harms["100, shuffled"].max()',
    },
    {
        "claim": "Sampling in training mode changes the model.",
        "says": "The model is put into evaluation mode.",
        "change": (".train()  # broken: as a loop", ".eval()  # broken: as a loop"),
        "falls": "assert altered[0] > 0 == altered[1]",
    },
    {
        "claim": "With labels in another order, neighbours agree no more often than by chance.",
        "says": "The loader does not shuffle.",
        "change": ("shuffle=True, generator=shuffle", "shuffle=False"),
        "falls": "assert abs(accuracy[0] - chance)",
    },
    {
        "claim": "Each of the six bugs is stopped by exactly one check, correct code by none.",
        "says": "The noise of the fixed device is put on the device of the mean.",
        "change": (
            "def on_cpu(mean, log_var):  # broken as well\n"
            "    return mean + torch.exp(0.5 * log_var) * torch.randn(mean.shape)",
            "def on_cpu(mean, log_var):\n"
            "    return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)",
        ),
        "falls": "assert all(len(caught[bug]) == 1 for bug in bugs)",
    },
    {
        "claim": "The five checks of preflight find five bugs before the first epoch.",
        "says": "The untrained model with batch norm is put into evaluation mode.",
        "change": ("16, width=8).train()", "16, width=8).eval()"),
        "falls": "assert found == [caught[bug] for bug in bugs[:5]]",
    },
]

NEUTRAL = [
    {
        "says": "The error rate is found by the smallest distance's index.",
        "change": ("mean).argmin(dim=1)", "mean).min(dim=1).indices"),
        "holds": 'assert (tables["no exp"]["told, at least"] > tables["no exp"].kl).all()',
    },
    {
        "says": "The same batches sorted by class, last class first.",
        "change": ("test.labels.argsort()", "test.labels.argsort(descending=True)"),
        "holds": 'assert harms["100, shuffled"].max()',
    },
]
