"""Changes under which a claim of chapter 2 must fall."""

REFUTATIONS = [
    {
        "claim": "Neighbours name the class far more often than guessing, best in 128 dimensions.",
        "says": "The labels are those of other images.",
        "change": ("labels = images.labels.numpy()", "labels = images.labels.roll(1).numpy()"),
        "falls": 'assert 3 * accuracy["guessing"]',
    },
    {
        "claim": "The codes of all images come near the prior but can be told apart from it.",
        "says": "The draws for the aggregate posterior come from the prior.",
        "change": (
            "vb.sample_posterior(plane, images).numpy()",
            "vb.sample_prior(plane, count, seed=3).numpy()",
        ),
        "falls": "abs(control - 0.5) < 0.05 < apart",
    },
    {
        "claim": "The codes of all images come near the prior but can be told apart from it.",
        "says": "The control is drawn with another spread.",
        "change": (
            "vb.sample_prior(plane, count, seed=2).numpy()",
            "0.5 * vb.sample_prior(plane, count, seed=2).numpy()",
        ),
        "falls": "abs(control - 0.5) < 0.05 < apart",
    },
    {
        "claim": "Two principal components hide classes that 128 dimensions separate.",
        "says": "As many components are kept as the codes have dimensions.",
        "change": ("pca = PCA(2).fit(codes)", "pca = PCA().fit(codes)"),
        "falls": "assert flat < accuracy",
    },
    {
        "claim": "t-SNE keeps neighbourhoods, but not the distances between its islands.",
        "says": "Both runs start from the same arrangement.",
        "change": ("random_state=seed)", "random_state=0)"),
        "falls": "min(kept) > in_space - 0.05 and agreement",
    },
    {
        "claim": "t-SNE keeps neighbourhoods, but not the distances between its islands.",
        "says": "The maps are shown with the codes of other images.",
        "change": ("fit_transform(some)", "fit_transform(some[::-1])"),
        "falls": "min(kept) > in_space - 0.05 and agreement",
    },
    {
        "claim": "A grid of quantiles shows the classes that are generated; one to ±8 does not.",
        "says": "The quantile grid is laid in equal steps.",
        "change": ('spacing="quantiles")', 'spacing="equal")'),
        "falls": 'distance["quantiles"] < 0.3',
    },
    {
        "claim": "Decoding and encoding returns a code within the prior, and loses it far outside.",
        "says": "The directions are not multiplied by the radii.",
        "change": (
            "radii[:, None, None] * direction",
            "torch.ones_like(radii)[:, None, None] * direction",
        ),
        "falls": "far > 10 * near",
    },
    {
        "claim": "Halfway on a walk there is one picture, halfway through a fade there are two.",
        "says": "The walk is taken between the pictures instead of the codes.",
        "change": (
            "halfway = vb.decode(wide, (a + b) / 2)",
            "halfway = (vb.decode(wide, a) + vb.decode(wide, b)) / 2",
        ),
        "falls": 'ghosts["walk"] < 1.6 * ghosts["ends"]',
    },
]

NEUTRAL = [
    {
        "says": "The images of a pair are named in the other order.",
        "change": ("a, b = code[0::2], code[1::2]", "b, a = code[0::2], code[1::2]"),
        "holds": 'ghosts["walk"] < 1.6 * ghosts["ends"]',
    },
    {
        "says": "The classes' neighbours are judged by labels in a plain list.",
        "change": ("labels = images.labels.numpy()", "labels = np.array(images.labels.tolist())"),
        "holds": 'assert 3 * accuracy["guessing"]',
    },
]
