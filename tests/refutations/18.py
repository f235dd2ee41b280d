"""Changes under which a claim of chapter 18 must fall. None depends on the clock of a machine."""

QUICK = (
    "One pass of the short training over MNIST gives a dense VAE a lower loss than the first pass "
    "of the usual recipe."
)
IMAGES = "An epoch from one tensor has the same images as one from the loader, to the last bit."
LENT = (
    "While `vb.fit` has replaced the forward of some layers, loss and gradients are the same up to "
    "rounding."
)
RUNGS = "After as many steps from the same weights all rungs have nearly the same loss."
FEWER = (
    "A higher rate, OneCycle and shorter averages each lower the loss of the dense network by more "
    "than half a nat after as many passes, with each of three seeds."
)
RACE = (
    "In each task of the race and with each seed, the others need more than twice as long as "
    "`vb.fit` to the target."
)
AVERAGES = (
    "What a shorter average of the gradients brings depends on the other settings: at batches of "
    "96 more than three standard deviations between seeds, at batches of 64 less."
)

REFUTATIONS = [
    {
        "claim": QUICK,
        "says": "The short training keeps the usual rate.",
        "change": ('"lr": vb.OneCycle(1.2e-2)', '"lr": 1e-3'),
        "falls": "quality_loss.iloc[0] < usual_passes.loss[1]",
    },
    {
        "claim": IMAGES,
        "says": "The bytes are divided by 256.",
        "change": ("images.pixels[chosen].float() / 255", "images.pixels[chosen].float() / 256"),
        "falls": "assert torch.equal(all_of(gathered)",
    },
    {
        "claim": LENT,
        "says": "One of the faster functions passes no gradient on to its input.",
        "change": (
            "    lent_loss, lent_slopes = loss_and_slopes(model)",
            "    layer = model.decoder[2]\n"
            "    layer.forward = lambda x, way=layer.forward: way(x.detach())\n"
            "    lent_loss, lent_slopes = loss_and_slopes(model)",
        ),
        "falls": "assert (lent_slope - slope)",
    },
    {
        "claim": RUNGS,
        "says": "`vb.fit` takes twice as many steps as the other rungs.",
        "change": (
            "model, images, epochs=1, progress=False, seed",
            "model, images, epochs=2, progress=False, seed",
        ),
        "falls": "assert data.stand_in or (off.dense < 0.02",
    },
    {
        "claim": FEWER,
        "says": "The rate stays at its peak.",
        "change": ('cycle = {"lr": vb.OneCycle(8e-3)', 'cycle = {"lr": 8e-3'),
        "falls": "assert data.stand_in or (gains.mean() > 0.5)",
    },
    {
        "claim": FEWER,
        "says": "The averages keep their usual lengths.",
        "change": (
            '"shorter averages": cycle | {"optimizer": shorter}',
            '"shorter averages": cycle | {"optimizer": "adam"}',
        ),
        "falls": "assert data.stand_in or (gains.mean() > 0.5)",
    },
    {
        "claim": RACE,
        "says": "The trainings of `vb.fit` have twice as many epochs.",
        "change": (
            '"vaebook", settings.epochs[row.task])',
            '"vaebook", 2 * settings.epochs[row.task])',
        ),
        "falls": "assert min(ratio.min() for ratio in within.values()) > 2",
    },
    {
        "claim": AVERAGES,
        "says": "Both columns are of batches of 64.",
        "change": ('"batches of 96": (96, 8e-3, 0.5)', '"batches of 96": (64, 6e-3, 0.8)'),
        "falls": 'assert of_gradients["batches of 96"]',
    },
]

NEUTRAL = [
    {
        "says": "The images of the tensor come in their own order.",
        "change": (
            "order = torch.randperm(len(images), device=device)",
            "order = torch.arange(len(images), device=device)",
        ),
        "holds": "assert torch.equal(all_of(gathered)",
    },
]
