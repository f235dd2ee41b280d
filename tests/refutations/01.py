"""Changes under which a claim of chapter 1 must fall."""

REFUTATIONS = [
    {
        "claim": "A reparameterized draw has the standard deviation that the encoder states.",
        "says": "The standard deviation is used without its exponential.",
        "change": (
            "torch.exp(0.5 * log_var) * torch.randn_like(mean)",
            "0.5 * log_var * torch.randn_like(mean)",
        ),
        "falls": "assert abs(draws.std() - 3)",
    },
    {
        "claim": "The written-out KL is the KL divergence to the standard normal distribution.",
        "says": "The log-variance is taken for the variance.",
        "change": (
            "log_var.exp() - 1 - log_var).sum",
            "log_var - 1 - log_var).sum",
        ),
        "falls": "assert torch.allclose(kl, reference",
    },
    {
        "claim": "The written-out reconstruction is −log p(x|z), summed over pixels.",
        "says": "The cross-entropy is averaged over pixels instead of summed.",
        "change": ("cross_entropy.sum(dim=(1, 2, 3))", "cross_entropy.mean(dim=(1, 2, 3))"),
        "falls": "assert torch.allclose(reconstruction",
    },
    {
        "claim": "An untrained model costs as much as 784 fair coins, 543 nats.",
        "says": "The decoder ends with a sigmoid, so the loss takes probabilities for logits.",
        "change": (
            "nn.ConvTranspose2d(28, 1, 4, stride=2, padding=1, bias=False),",
            "nn.ConvTranspose2d(28, 1, 4, stride=2, padding=1, bias=False), nn.Sigmoid(),",
        ),
        "falls": "assert abs(reconstruction.mean() / coin - 1)",
    },
    {
        "claim": "A hundred steps of the written-out loop bring the loss below that of fair coins.",
        "says": "The loop forgets the optimizer's step.",
        "change": ("    optimizer.step()\n", ""),
        "falls": "assert loss < coin",
    },
    {
        "claim": "The model of this chapter is the package's conv_vae.",
        "says": "The encoder's leaky ReLU has another slope.",
        "change": (
            "padding=1),\n        nn.BatchNorm2d(out),\n        nn.LeakyReLU(0.01)",
            "padding=1),\n        nn.BatchNorm2d(out),\n        nn.LeakyReLU(0.2)",
        ),
        "falls": "torch.testing.assert_close(packaged.encode(x)",
    },
    {
        "claim": "The costs of the pixels of one image add up to its reconstruction.",
        "says": "The second term of a grey pixel's cost is left out.",
        "change": (
            "-brightness * white.log() - (1 - brightness) * (1 - white).log()",
            "-brightness * white.log()",
        ),
        "falls": "assert abs(cost.sum() - reconstruction.item())",
    },
    {
        "claim": "128 dimensions cost less than 2, and both less than the average image.",
        "says": "The landmarks are averaged over pixels instead of summed.",
        "change": (
            'reduction="sum")\n    return cross_entropy.item() / len(images)',
            'reduction="mean")\n    return cross_entropy.item()',
        ),
        "falls": "table.loss.max() < ignorant",
    },
    {
        "claim": "With 128 dimensions a model reconstructs better than with 2 and generates worse.",
        "says": "Codes are drawn from the posteriors of images instead of the prior.",
        "change": ("vb.sample_prior(model, 1000)", "vb.sample_posterior(model, held_out)"),
        "falls": "assert mnist.stand_in or (better",
    },
    {
        "claim": "Most of 128 dimensions are unused: their posterior is the prior.",
        "says": "The KL of a dimension leaves out the terms of the standard deviation.",
        "change": ("mean**2 + std**2 - 1 - 2 * std.log())).mean(dim=0)", "mean**2)).mean(dim=0)"),
        "falls": 'assert abs(kl_per_dim.sum() - table.kl["128"])',
    },
    {
        "claim": "Most of 128 dimensions are unused: their posterior is the prior.",
        "says": "The dimensions that cost more than 0.1 nats are taken for the unused ones.",
        "change": ("unused = kl_per_dim < 0.1", "unused = kl_per_dim > 0.1"),
        "falls": "assert mnist.stand_in or (2 < used",
    },
]

NEUTRAL = [
    {
        "says": "The noise stands before the standard deviation.",
        "change": (
            "torch.exp(0.5 * log_var) * torch.randn_like(mean)",
            "torch.randn_like(mean) * torch.exp(0.5 * log_var)",
        ),
        "holds": "assert abs(draws.std() - 3)",
    },
    {
        "says": "The terms of the KL stand in another order.",
        "change": (
            "mean**2 + log_var.exp() - 1 - log_var).sum",
            "log_var.exp() - log_var + mean**2 - 1).sum",
        ),
        "holds": "assert torch.allclose(kl, reference",
    },
]
