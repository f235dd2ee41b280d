"""Four uses of a VAE, each beside the simple methods that a sceptic would try first.

    python -m experiments.uses                run what is missing, cell by cell
    python -m experiments.uses --part odd
    python -m experiments.uses --list         say what is done and what is missing

Four parts, each with seeds 0, 1 and 2, which decide the VAE, its draws and the labels that are
known. The last images of each training set are for validation, by which settings are found. But
resampled codes and the length of the PNG file were first tried, with one seed, on some of the test
images of MNIST and Fashion-MNIST.

* ``odd`` (uses_odd.csv): which test images are from another data set? Each method gives every image
  a score; the area under the ROC curve (AUROC) tells how well it sorts them.
* ``holes`` (uses_holes.csv): black and white pixels are hidden and predicted. How many nats do the
  hidden pixels of an image cost under the predicted probabilities?
* ``labels`` (uses_labels.csv): 10, 100 or 1,000 training images have labels. What share of the test
  images gets a wrong class?
* ``pictures`` (uses_pictures.csv): a collection of 64×64 colour textures has a few of a kind that
  is otherwise absent. As in ``odd``, but the odd ones are in the training set, too.

`ahead` is by how much a method is better than the best simple method of the same seed on the same
test images, and `ahead_error` the standard error of this difference over these images (a bootstrap
for AUROC). A row is written when its cell ends, so that an interrupted experiment goes on where it
stopped. uses.json tells settings, versions and data. `seconds` are processor seconds of one core.
"""

import io
import math
import time
from datetime import date
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.sparse import csr_array, diags_array
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.distributions import Categorical, Normal

import vaebook as vb
from experiments.records import RUNS, fit, run_parts
from vaebook.data.textures import FAMILIES, make_textures

SEEDS = (0, 1, 2)
SETS = {"mnist": 5000, "kmnist": 1000, "fashion_mnist": 5000}  # and images for validation
VAE = {
    "latent_dim": 32, "hidden": (500, 500), "activation": "gelu", "batch_size": 128, "lr": 1.5e-3,
    "epochs": {"mnist": 10, "kmnist": 30, "fashion_mnist": 10},
}  # fmt: skip
ODD = {"images": 2000, "draws": 100, "components": 32, "bootstrap": 200}
HOLES = {
    "images": 1000, "validation": 300, "smallest_probability": 1e-3, "neighbours": (3, 10, 30, 100),
    "noise": (0.03, 0.1, 0.3), "powers": (1.0, 0.5, 0.25),
    "chains": 5, "steps": 20, "proposals": 10,
}  # fmt: skip
LABELS = {
    "counts": (10, 100, 1000), "components": 32, "penalties": (0.01, 0.1, 1.0, 10.0),
    "hidden": 200, "latent_dim": 16, "steps": 3000, "batch_size": 200, "labelled": 100, "lr": 2e-3,
    "classifier": 1.0, "graph_components": 50, "neighbours": 8, "spread": 0.99, "rounds": 200,
}  # fmt: skip
PICTURES = {
    "size": 64, "pictures": 1400, "odd": 28, "components": 32, "latent_dim": 32, "width": 16,
    "epochs": 15, "batch_size": 64, "lr": 1e-3,
}  # fmt: skip


def falling(first):
    return lambda done: first * (1 - done)


def flat(images):
    """Return the pixels of images as rows of numbers in [0, 1]."""
    return vb.data.to_pixels(images.pixels, "cpu").flatten(1)


@cache
def parts_of(dataset):
    """Return the images for training, for validation and for the test."""
    data, held = vb.load(dataset), SETS[dataset]
    return data.train[:-held], data.train[-held:], data.test


@cache
def black_and_white(dataset, seed):
    """Return the pixels of these parts, drawn black or white: grey is the chance of white."""
    generator = torch.Generator().manual_seed(seed)
    parts = (vb.data.to_pixels(part.pixels, "cpu") for part in parts_of(dataset))
    return [torch.bernoulli(part, generator=generator) for part in parts]


@cache
def trained(dataset, likelihood, seed):
    """Train a dense VAE, or read it; it has the weights of its best epoch by validation images."""
    path = RUNS / f"uses-{dataset}-{likelihood}-{seed}.safetensors"
    if path.exists():
        return vb.load_model(path)
    data, (train, validation, _) = vb.load(dataset), parts_of(dataset)
    if likelihood == "bernoulli":
        train, validation = train.binarized(), validation.binarized()
    torch.manual_seed(seed)
    model = vb.dense_vae(
        data.image_shape, VAE["latent_dim"], hidden=VAE["hidden"], activation=VAE["activation"],
        likelihood=likelihood,
    )  # fmt: skip
    fit(
        model, train, validation=validation, epochs=VAE["epochs"][dataset],
        batch_size=VAE["batch_size"], lr=falling(VAE["lr"]), seed=seed, device="cpu",
        precision="float32", progress=False, callbacks=[vb.EarlyStopping()],
    )  # fmt: skip
    vb.save(model, path)
    return model


# Odd ones out


def png_nats(images):
    """Return how long the PNG file of each image is, in nats."""
    lengths = []
    for pixels in images.pixels:
        file = io.BytesIO()
        channels = pixels.numpy()
        Image.fromarray(channels[0] if len(channels) == 1 else channels.transpose(1, 2, 0)).save(
            file, "PNG", optimize=True
        )
        lengths.append(len(file.getvalue()))
    return np.array(lengths) * 8 * math.log(2)


def negative_elbo(model, images, seed):
    """Return -ELBO of each image, estimated by one draw."""
    torch.manual_seed(seed)
    with torch.no_grad():
        batches = vb.data.to_pixels(images.pixels, "cpu").split(500)
        return torch.cat([vb.NegativeELBO()(model, x).loss for x in batches]).numpy()


def nearest_distance(x, others):
    """Return the distance of each row of `x` from the nearest of the others."""
    return torch.cat([torch.cdist(some, others).min(1).values for some in x.split(250)]).numpy()


def squared_error(made, x):
    return ((made - x) ** 2).sum(1).numpy()


def pca_error(fitted, x):
    """Return the squared error of each row after a projection on principal components."""
    return squared_error(torch.from_numpy(fitted.inverse_transform(fitted.transform(x))), x)


def given_length(distances, lengths, usual):
    """Return how much larger distances are than usual images of the same file length have them.

    `usual` are distances and lengths of validation images, through which a line is laid, both in
    logarithms.
    """
    slope, start = np.polyfit(*(np.log(np.maximum(some, 1e-6)) for some in usual[::-1]), 1)
    return np.log(np.maximum(distances, 1e-6)) - slope * np.log(lengths) - start


@cache
def simple_scores(inside, of, part, seed):
    """Return the scores of methods without a VAE: the higher, the odder."""
    train, (_, validation, test) = parts_of(inside)[0], parts_of(of)
    images = (validation if part == "validation" else test)[: ODD["images"]]
    fitted = PCA(ODD["components"], random_state=seed).fit(flat(train)[:20_000])
    found = {
        "principal components": pca_error(fitted, flat(images)),
        "nearest neighbour": nearest_distance(flat(images), flat(train)),
        "length of the PNG file": png_nats(images),
    }
    if part == "test":
        usual = simple_scores(inside, inside, "validation", seed)
        names = "nearest neighbour", "length of the PNG file"
        found["nearest neighbour, given the PNG file"] = given_length(
            *(found[name] for name in names), [usual[name] for name in names]
        )
    return found


@cache
def scores(inside, of, part, seed):
    """Return, for each method, a score of each image: the higher, the odder."""
    _, validation, test = parts_of(of)
    images = (validation if part == "validation" else test)[: ODD["images"]]
    model, x = trained(inside, "discretized_logistic", seed), flat(images)
    log_p = vb.log_likelihood(model, images, draws=ODD["draws"], seed=seed, progress=False)
    found = simple_scores(inside, of, part, seed) | {
        "reconstruction error": squared_error(vb.reconstruct(model, images).flatten(1), x),
        "-ELBO": negative_elbo(model, images, seed),
        "-log p": -np.asarray(log_p.per_image),
    }
    if part == "test":
        usual = scores(inside, inside, "validation", seed)["-log p"].mean()
        found["typicality"] = np.abs(found["-log p"] - usual)
        found["-log p, less the PNG file"] = found["-log p"] - found["length of the PNG file"]
    return found


def auroc(usual, odd):
    """Return the chance that an odd image has a higher score than a usual one."""
    return roc_auc_score(np.r_[np.zeros(len(usual)), np.ones(len(odd))], np.r_[usual, odd])


def compared(usual, odd, method, simple, seed):
    """Return the AUROC of a method, and how far it is ahead of the best simple one."""
    best = max(simple, key=lambda name: auroc(usual[name], odd[name]))
    random, gains = np.random.default_rng(seed), []
    for _ in range(ODD["bootstrap"]):
        i, j = (random.integers(len(part[method]), size=len(part[method])) for part in (usual, odd))
        gains.append(auroc(usual[method][i], odd[method][j]) - auroc(usual[best][i], odd[best][j]))
    own = auroc(usual[method], odd[method])
    return {
        "auroc": round(own, 4), "ahead": round(own - auroc(usual[best], odd[best]), 4),
        "ahead_error": round(np.std(gains), 4),
    }  # fmt: skip


SIMPLE = ("principal components", "nearest neighbour", "length of the PNG file")
WITH_THE_FILE = "nearest neighbour, given the PNG file"


def odd(inside, outside, seed, method):
    """Return how well a method that was fitted to one data set finds images of another."""
    usual, others = scores(inside, inside, "test", seed), scores(inside, outside, "test", seed)
    return compared(usual, others, method, (*SIMPLE, WITH_THE_FILE), seed)


# Holes


def hidden_pixels(count, kind, seed):
    """Return which pixels of `count` images are hidden."""
    hidden = torch.zeros(count, 1, 28, 28, dtype=torch.bool)
    if kind == "lower half":
        hidden[..., 14:, :] = True
    elif kind == "square":
        hidden[..., 7:21, 7:21] = True
    else:
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.rand(hidden.shape, generator=generator) < 0.8
    return hidden


def neighbours(train, x, hidden, k):
    """Return the mean of the k training images that differ least in the visible pixels."""
    rows, seen = train.flatten(1), (~hidden).flatten(1).float()
    differ = seen @ rows.T - 2 * (x.flatten(1) * seen) @ rows.T  # up to a constant of each image
    nearest = differ.topk(k, largest=False).indices
    return torch.stack([rows[some].mean(0) for some in nearest]).view_as(x)


def gaussian(train, x, hidden, noise):
    """Return the conditional mean under a Gaussian with the training images' moments."""
    rows = train.flatten(1).double()
    mean, covariance = rows.mean(0), rows.T.cov()
    made = mean.repeat(len(x), 1)
    for row, image, gone in zip(made, x.flatten(1).double(), hidden.flatten(1), strict=True):
        seen = ~gone
        precise = covariance[seen][:, seen] + noise * torch.eye(int(seen.sum()))
        weights = torch.linalg.solve(precise, image[seen] - mean[seen])
        row[gone] += covariance[gone][:, seen] @ weights
    return made.float().view_as(x)


def visible_log_p(x, hidden, logits):
    """Return log p(visible pixels|z) of each image and each decoder output [codes, pixels]."""
    seen, x = (~hidden).flatten(1).float(), x.flatten(1)
    return (seen * x) @ F.logsigmoid(logits).T + (seen * (1 - x)) @ F.logsigmoid(-logits).T


@torch.no_grad()
def resampled(model, z, x, hidden, power):
    """Return the mean of decoded codes, each weighted by what it says of the visible pixels."""
    logits = model.decode(z).flatten(1)
    weights = (power * visible_log_p(x, hidden, logits)).softmax(1)
    return (weights @ logits.sigmoid()).view_as(x)


@torch.no_grad()
def chains(model, mean_image, x, hidden, steps, proposals=1):
    """Return the mean of images along Gibbs chains between z and the hidden pixels.

    With several proposals one is taken by its importance weight, so that z comes closer to the
    posterior than by the encoder alone. The first half of the steps does not count.
    """
    x, hidden = (some.repeat(HOLES["chains"], 1, 1, 1) for some in (x, hidden))
    full = torch.where(hidden, mean_image.expand_as(x).bernoulli(), x)
    total = torch.zeros_like(x)
    for step in range(steps):
        drawn = model.draw(full, proposals)
        weights = drawn.likelihood + drawn.prior - drawn.posterior
        chosen = Categorical(logits=weights.T).sample()
        chance = model.decode(drawn.z[chosen, torch.arange(len(x))]).sigmoid()
        full = torch.where(hidden, chance.bernoulli(), x)
        if step >= steps // 2:
            total += chance
    return total.unflatten(0, (HOLES["chains"], -1)).mean(0) / (steps - steps // 2)


def judged(chance, x, hidden):
    """Return the nats of the hidden pixels of each image, the squared error, and the calibration.

    The calibration error is the mean distance between a predicted probability and the share of
    white pixels, over ten bins of the probability (Naeini et al. 2015).
    """
    least = HOLES["smallest_probability"]
    chance = chance.clamp(least, 1 - least)
    nats = (F.binary_cross_entropy(chance, x, reduction="none") * hidden).flatten(1).sum(1)
    p, white = chance[hidden], x[hidden]
    bins = (10 * p).long()
    errors = [(p - white)[bins == b].sum().abs() for b in range(10)]
    return nats, (p - white).square().mean().item(), (sum(errors) / len(p)).item()


FILLS = (
    "mean image", "nearest neighbours", "Gaussian", "one pass", "Gibbs chain",
    "Gibbs chain, importance resampling", "codes of N(0, I), resampled",
    "codes of images, resampled",
)  # fmt: skip


@cache
def filled(dataset, hole, seed, method):
    """Return the nats of each test image, and a row."""
    x = black_and_white(dataset, seed)[2][: HOLES["images"]]
    hidden = hidden_pixels(len(x), hole, seed)
    begun = time.process_time()
    setting, fill = chosen(dataset, hole, seed, method)
    torch.manual_seed(seed)
    nats, square, calibration = judged(fill(x, hidden, setting), x, hidden)
    return nats, {
        "nats": round(nats.mean().item(), 2), "squared_error": round(square, 5),
        "calibration_error": round(calibration, 4), "setting": setting,
        "seconds": round(time.process_time() - begun, 1),
    }  # fmt: skip


def chosen(dataset, hole, seed, method):
    """Return the setting of a method that is best on validation images, and the method."""
    train, validation, _ = black_and_white(dataset, seed)
    model, mean_image = trained(dataset, "bernoulli", seed), train.mean(0)
    settings, fill = {
        "mean image": (("",), lambda x, hidden, _: mean_image.expand_as(x)),
        "nearest neighbours": (HOLES["neighbours"], lambda *given: neighbours(train, *given)),
        "Gaussian": (HOLES["noise"], lambda *given: gaussian(train, *given)),
        "one pass": (("",), lambda x, hidden, _: model.reconstruct(
            torch.where(hidden, mean_image, x)
        )),
        "Gibbs chain": (
            ("",), lambda x, hidden, _: chains(model, mean_image, x, hidden, HOLES["steps"])
        ),
        "Gibbs chain, importance resampling": (("",), lambda x, hidden, _: chains(
            model, mean_image, x, hidden, HOLES["steps"], HOLES["proposals"]
        )),
        "codes of N(0, I), resampled": (HOLES["powers"], lambda *given: resampled(
            model, vb.sample_prior(model, len(train), seed=seed), *given
        )),
        "codes of images, resampled": (HOLES["powers"], lambda *given: resampled(
            model, vb.sample_posterior(model, train, seed=seed), *given
        )),
    }[method]  # fmt: skip
    if len(settings) == 1:
        return settings[0], fill
    x = validation[: HOLES["validation"]]
    hidden = hidden_pixels(len(x), hole, seed + 100)
    costs = {each: judged(fill(x, hidden, each), x, hidden)[0].mean() for each in settings}
    return min(costs, key=costs.get), fill


def holes(dataset, hole, seed, method):
    """Return how well hidden pixels are predicted."""
    nats, row = filled(dataset, hole, seed, method)
    simple = [filled(dataset, hole, seed, name)[0] for name in FILLS[:3]]
    gain = min(simple, key=lambda one: one.mean()) - nats
    return row | {
        "ahead": round(gain.mean().item(), 2),
        "ahead_error": round(gain.std().item() / len(gain) ** 0.5, 2),
    }


# Few labels


class LabelledCodes(nn.Module):
    """A VAE of codes and labels, some of which are known (Kingma et al. 2014, M2).

    The encoder and the decoder see the label y beside a code h or z; a classifier gives q(y|h).
    """

    def __init__(self, dim, classes, s=LABELS):
        super().__init__()
        self.classes = classes

        def network(inputs, outputs):
            return nn.Sequential(
                nn.Linear(inputs, s["hidden"]), nn.GELU(), nn.Linear(s["hidden"], outputs)
            )

        self.classifier = network(dim, classes)
        self.encoder = network(dim + classes, 2 * s["latent_dim"])
        self.decoder = network(s["latent_dim"] + classes, 2 * dim)

    def cost(self, h, y):
        """Return -ELBO of (h, y) in nats, for codes [batch, dim] and one-hot labels."""
        mean, log_var = self.encoder(torch.cat([h, y], 1)).chunk(2, 1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        location, log_scale = self.decoder(torch.cat([z, y], 1)).chunk(2, 1)
        log_p = Normal(location, log_scale.clamp(-3, 2).exp()).log_prob(h).sum(1)
        return vb.kl_to_prior(mean, log_var) - log_p + math.log(self.classes)

    def unlabelled_cost(self, h):
        """Return -ELBO of h: the cost for each label, by its probability, less the entropy."""
        log_q = self.classifier(h).log_softmax(1)
        every = torch.eye(self.classes).repeat(len(h), 1)
        costs = self.cost(h.repeat_interleave(self.classes, 0), every).view_as(log_q)
        return (log_q.exp() * (costs + log_q)).sum(1)


def train_labelled(codes, known, labels, classes, seed, s=LABELS):
    """Train on all codes (means and standard deviations) and on the labels of some of them."""
    torch.manual_seed(seed)
    model = LabelledCodes(codes[0].shape[1], classes, s)
    optimizer = torch.optim.Adam(model.parameters(), s["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, 2 * (1 - step / s["steps"]))
    )
    for _ in range(s["steps"]):
        some = torch.randint(len(codes[0]), (s["batch_size"],))
        loss = model.unlabelled_cost(torch.normal(codes[0][some], codes[1][some])).mean()
        some = torch.randint(len(known), (s["labelled"],))
        h = torch.normal(codes[0][known[some]], codes[1][known[some]])
        cost = model.cost(h, F.one_hot(labels[some], classes).float()).mean()
        loss = loss + min(1, len(known) / s["batch_size"]) * cost
        loss = loss + s["classifier"] * F.cross_entropy(model.classifier(h), labels[some])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.classifier


@cache
def features_of(dataset, seed):
    """Return pixels, principal components and codes of training, validation and test images."""
    parts, model = parts_of(dataset), trained(dataset, "bernoulli", seed)
    pixels = [flat(part) for part in parts]
    fitted = PCA(LABELS["components"], whiten=True, random_state=seed).fit(pixels[0][:20_000])
    components = [torch.tensor(fitted.transform(some)).float() for some in pixels]
    with torch.no_grad():
        moments = [model.encode(some.view(-1, *model.image_shape)) for some in pixels]
    means = [mean for mean, _ in moments]
    active = means[0].var(0) > 0.01
    centre, spread = means[0][:, active].mean(0), means[0][:, active].std(0)
    codes = [(mean[:, active] - centre) / spread for mean in means]
    stds = (0.5 * moments[0][1][:, active]).exp() / spread
    return {"pixels": pixels, "components": components, "codes": codes}, stds


def known_labels(labels, count, seed):
    """Return the places of `count` images, as many of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = labels.unique()
    return torch.cat([order[labels[order] == c][: count // len(classes)] for c in classes])


@cache
def graph(dataset, seed, of_codes):
    """Return the normalized graph of training images and the neighbours of the test images.

    Neighbours are the nearest training images by their posterior means, or by their principal
    components.
    """
    train, _, test = (flat(part) for part in parts_of(dataset))
    if of_codes:
        model = trained(dataset, "bernoulli", seed)
        with torch.no_grad():
            train, test = (model.encode(x.view(-1, *model.image_shape))[0] for x in (train, test))
    else:
        fitted = PCA(LABELS["graph_components"], random_state=seed).fit(train[:20_000])
        train, test = (torch.tensor(fitted.transform(x)).float() for x in (train, test))
    k = LABELS["neighbours"]

    def nearest(x, k):
        found = (torch.cdist(some, train).topk(k, largest=False).indices for some in x.split(500))
        return torch.cat([*found]).numpy()

    pairs = np.repeat(np.arange(len(train)), k), nearest(train, k + 1)[:, 1:].ravel()
    edges = csr_array((np.ones(len(pairs[0])), pairs), shape=(len(train), len(train)))
    edges = edges.maximum(edges.T)
    scale = diags_array(edges.sum(0) ** -0.5)
    return scale @ edges @ scale, nearest(test, k)


def spread(edges, known, labels, classes):
    """Return the classes of all nodes of a graph, as shares, by label spreading (Zhou et al. 2004).

    Each node takes the mean of its neighbours, and those with a label a little of their own.
    """
    own = np.zeros((edges.shape[0], classes))
    own[known, labels] = 1
    found = own
    for _ in range(LABELS["rounds"]):
        found = LABELS["spread"] * (edges @ found) + (1 - LABELS["spread"]) * own
    found = found / found.sum(0)  # so that no class wins by the size of its cluster
    return found / np.maximum(found.sum(1, keepdims=True), 1e-12)


@cache
def wrong_classes(dataset, labels, seed, method):
    """Return which test images get a wrong class, and the processor seconds of the training."""
    of_train, of_validation, of_test = (part.labels for part in parts_of(dataset))
    known = known_labels(of_train, labels, seed)
    features, stds = features_of(dataset, seed)
    name = {"logistic regression": "pixels", "nearest neighbour": "pixels",
            "components + logistic regression": "components"}.get(method, "codes")  # fmt: skip
    train, validation, test = features[name]
    begun = time.process_time()
    if method == "M1+M2":
        classes = len(of_train.unique())
        classifier = train_labelled((train, stds), known, of_train[known], classes, seed)
        with torch.no_grad():
            found = classifier(test).argmax(1)
    elif "label spreading" in method:
        edges, near = graph(dataset, seed, of_codes="codes" in method)
        classes = len(of_train.unique())
        found = spread(edges, known, of_train[known], classes)[near].sum(1).argmax(1)
    elif method == "nearest neighbour":
        found = KNeighborsClassifier(1).fit(train[known], of_train[known]).predict(test)
    else:
        fits = [
            LogisticRegression(C=penalty, max_iter=1000).fit(train[known], of_train[known])
            for penalty in LABELS["penalties"]
        ]
        best = max(fits, key=lambda one: one.score(validation, of_validation))
        found = best.predict(test)
    wrong = np.asarray(found) != of_test.numpy()
    return wrong, round(time.process_time() - begun, 1)


CLASSIFIERS = (
    "logistic regression", "components + logistic regression", "nearest neighbour",
    "label spreading", "codes + logistic regression (M1)", "codes + label spreading", "M1+M2",
)  # fmt: skip


def labels(dataset, labels, seed, method):
    """Return the share of wrong classes when few labels are known, in percent."""
    wrong, seconds = wrong_classes(dataset, labels, seed, method)
    simple = [wrong_classes(dataset, labels, seed, name)[0] for name in CLASSIFIERS[:4]]
    gain = 100 * (min(simple, key=np.mean).astype(float) - wrong)
    return {
        "wrong": round(100 * wrong.mean(), 2), "ahead": round(gain.mean(), 2),
        "ahead_error": round(gain.std() / len(gain) ** 0.5, 2), "seconds": seconds,
    }  # fmt: skip


# Your own pictures


@cache
def collection(rare, seed):
    """Return colour textures, few of which are of the family `rare`, and which these are."""
    s = PICTURES
    many = len(FAMILIES) * s["pictures"] // (len(FAMILIES) - 1)
    grey, family = make_textures(many, seed=seed, size=s["size"])
    random = np.random.default_rng(seed)
    is_rare = family == FAMILIES.index(rare)
    keep = ~is_rare
    keep[np.flatnonzero(is_rare)[: s["odd"]]] = True
    grey, is_rare = grey[keep][:, None] / 255, is_rare[keep]
    dark, light = (random.uniform(*ends, (len(grey), 3, 1, 1)) for ends in ((0, 0.5), (0.5, 1)))
    pixels = (255 * (dark + (light - dark) * grey)).round().astype(np.uint8)
    return vb.Images(torch.from_numpy(pixels)), is_rare


@cache
def picture_scores(rare, seed):
    """Return, for each method, a score of each picture: the higher, the odder."""
    s, (images, is_rare) = PICTURES, collection(rare, seed)
    torch.manual_seed(seed)
    model = vb.conv_vae(
        images.image_shape, s["latent_dim"], width=s["width"], likelihood="discretized_logistic"
    )
    fit(
        model, images, epochs=s["epochs"], batch_size=s["batch_size"], lr=falling(s["lr"]),
        seed=seed, device="cpu", precision="float32", progress=False,
    )  # fmt: skip
    x, codes = flat(images), vb.posterior(model, images).mean
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf)
    between_codes = torch.cdist(codes, codes).fill_diagonal_(torch.inf)
    elbo, png = negative_elbo(model, images, seed), png_nats(images)
    return {
        "principal components": pca_error(PCA(s["components"], random_state=seed).fit(x), x),
        "nearest neighbour": distances.min(1).values.numpy(), "length of the PNG file": png,
        "-ELBO": elbo, "-ELBO, less the PNG file": elbo - png,
        "neighbours of codes": between_codes.topk(5, largest=False).values.mean(1).numpy(),
    }, is_rare  # fmt: skip


def pictures(rare, seed, method):
    """Return how well a method finds the rare pictures of a collection."""
    found, is_rare = picture_scores(rare, seed)
    usual, odd = ({name: score[which] for name, score in found.items()}
                  for which in (~is_rare, is_rare))  # fmt: skip
    return compared(usual, odd, method, SIMPLE, seed)


PARTS = {
    "odd": (odd, [
        {"inside": inside, "outside": outside, "seed": seed, "method": method}
        for inside in SETS for outside in SETS if outside != inside for seed in SEEDS
        for method in (
            *SIMPLE, WITH_THE_FILE, "reconstruction error", "-ELBO", "-log p", "typicality",
            "-log p, less the PNG file",
        )
    ]),
    "holes": (holes, [
        {"dataset": dataset, "hole": hole, "seed": seed, "method": method}
        for dataset in ("mnist", "kmnist") for seed in SEEDS
        for hole in ("lower half", "square", "80 % of the pixels") for method in FILLS
    ]),
    "labels": (labels, [
        {"dataset": dataset, "labels": count, "seed": seed, "method": method}
        for dataset in SETS for seed in SEEDS for count in LABELS["counts"]
        for method in CLASSIFIERS
    ]),
    "pictures": (pictures, [
        {"rare": rare, "seed": seed, "method": method}
        for rare in ("dots", "cells", "clouds", "weave") for seed in SEEDS
        for method in (
            *SIMPLE, "-ELBO", "-ELBO, less the PNG file", "neighbours of codes",
        )
    ]),
}  # fmt: skip


def about():
    """Return what uses.json says."""
    return {
        "data": {dataset: vb.load(dataset).source for dataset in SETS}, "validation": SETS,
        "vae": VAE, "odd": ODD, "holes": HOLES, "labels": LABELS, "pictures": PICTURES,
        "date": date.today().isoformat(),
        **vb.provenance(torch.device("cpu"), torch.float32, SEEDS[0]), "seed": SEEDS,
    }  # fmt: skip


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    return run_parts("uses", __doc__, PARTS, about, argv)


if __name__ == "__main__":
    raise SystemExit(main())
