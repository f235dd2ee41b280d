"""Changes under which a claim of chapter 21 must fall."""

REFUTATIONS = [
    {
        "claim": "Codes that are weighted by the visible pixels predict hidden ones best.",
        "says": "The weights go by other images' visible pixels.",
        "change": (
            "log_p = visible_log_p(logits, x, hidden)",
            "log_p = visible_log_p(logits, x.roll(1, 0), hidden)",
        ),
        "falls": 'assert stand_in or here["resampled codes"] < here["nearest neighbours"]',
    },
    {
        "claim": "The decoder's independent pixels are too sure which code is right.",
        "says": "The weights follow Bayes' rule to the letter.",
        "change": ("(0.25 * log_p).softmax(1)", "(1.0 * log_p).softmax(1)"),
        "falls": 'assert stand_in or here["resampled codes"] < here["nearest neighbours"]',
    },
    {
        "claim": "Digits are less surprising than clothes for a VAE of clothes.",
        "says": "The VAE has seen digits, and clothes are the odd ones.",
        "change": (
            "usual, odd = surprise(clothes.test[:500]), surprise(digits.test[:500])",
            "odd, usual = surprise(clothes.test[:500]), surprise(digits.test[:500])",
        ),
        "falls": "assert stand_in or np.median(odd) < np.median(usual)",
    },
    {
        "claim": "The PNG file's length makes a VAE of clothes find digits.",
        "says": "The length is that of the raw pixels, equal for all.",
        "change": (
            "lengths.append(len(file.getvalue()))",
            "lengths.append(pixels.numel())",
        ),
        "falls": 'assert stand_in or sorts["−log p"] < 0.5 and sorts["less the PNG file"] > 0.95',
    },
    {
        "claim": "A VAE of codes and labels makes use of images without labels.",
        "says": "Images without labels have no share in the loss.",
        "change": ("train_classifier(1)(test)", "train_classifier(0)(test)"),
        "falls": 'assert stand_in or errors["M1+M2"] < min(list(errors.values())[:3]) - 1',
    },
    {
        "claim": "The class is a cause of the codes, by which a label reaches a cluster.",
        "says": "The decoder does not see the class.",
        "change": (
            "self.decoder(torch.cat([z, y], 1))",
            "self.decoder(torch.cat([z, 0 * y], 1))",
        ),
        "falls": 'assert stand_in or errors["M1+M2"] < min(list(errors.values())[:3]) - 1',
    },
]

NEUTRAL = [
    {
        "claim": "Another seed finds the same order of methods for holes.",
        "says": "Another seed.",
        "change": ("torch.manual_seed(0)\ntrain, x =", "torch.manual_seed(7)\ntrain, x ="),
        "holds": 'assert stand_in or here["resampled codes"] < here["nearest neighbours"]',
    },
    {
        "claim": "Another seed makes M1+M2 better than pixels, too.",
        "says": "Another order of the images, and so other labels.",
        "change": ("torch.manual_seed(0)\norder, labels", "torch.manual_seed(7)\norder, labels"),
        "holds": 'assert stand_in or errors["M1+M2"] < errors["pixels + logistic regression"] - 4',
    },
]
