"""Priors fitted to the codes of trained VAEs, and one that is trained with its VAE.

    python -m experiments.priors              run what is missing, cell by cell
    python -m experiments.priors --part fidelity
    python -m experiments.priors --list       say what is done and what is missing

Two parts, each with seeds 0, 1 and 2, which decide the VAE, the priors and the draws:

* ``fidelity`` (priors_fidelity.csv): a convolutional VAE with 32 latent dimensions on grey images
  of MNIST, Kuzushiji-MNIST and Fashion-MNIST, and priors fitted to its codes of the first 30,000
  training images. How far are decoded draws from the test images, by a judge that is trained once
  for each data set on its last 20,000 training images? As many draws as test images count.
* ``likelihood`` (priors_likelihood.csv): a dense VAE on binarized MNIST with priors fitted to its
  codes, and the same networks trained with a VampPrior. What is -log p of the test images?

Numbers of Gaussians, steps and rates were tried on another model of MNIST, by distances to its
test images; neither the other data sets nor the second part had a share in them. A row is written
when its cell ends, so that an interrupted experiment goes on where it stopped. priors.json tells
settings, versions and data. Seconds are processor seconds of one core; on two slow cores, a part on
each, all takes about two hours.
"""

import math
import time
from datetime import date
from functools import cache, partial

import torch
from torch import nn

import vaebook as vb
from experiments.records import RUNS, fit, run_parts
from vaebook.evaluation.diagnosis import _log_mixture as log_mixture
from vaebook.models.ladder import Normal
from vaebook.priors import FlowMatching, Mixture, SplineFlow, Subspace

SEEDS = (0, 1, 2)
ACTIVE_BY, ACTIVE_ABOVE = 5000, 0.01  # images, and the variance of their posterior means
EPOCHS = {"mnist": 10, "kmnist": 15, "fashion_mnist": 4}
FIDELITY = {
    "latent_dim": 32, "width": 16, "batch_size": 64, "lr": 2e-3, "codes": 30_000,
    "judge_images": 20_000, "draws": 10_000, "held_out": 5000,
}  # fmt: skip
LIKELIHOOD = {
    "latent_dim": 40, "hidden": (300, 300), "activation": "gelu", "epochs": 12, "batch_size": 128,
    "lr": 2e-3, "warmup": 0.3, "codes": 20_000, "pseudo_inputs": 200, "draws": 1000, "images": 1000,
}  # fmt: skip
PRIORS = {
    "one Gaussian": lambda: Mixture(1),
    "50 Gaussians": lambda: Mixture(50),
    "spline flow": SplineFlow,
    "flow matching": FlowMatching,
}
STEPS = {
    "spline flow": {"steps": 1000, "batch_size": 256, "lr": 2e-3},
    "flow matching": {"steps": 5000, "batch_size": 256, "lr": 2e-3},
}


class VampVAE(vb.VAE):
    """A VAE whose prior is the mixture of the posteriors of images that are learned with it.

    Tomczak & Welling 2018, eq. 9. As its KL has no closed form, it is trained on one draw.
    """

    def __init__(self, networks, pseudo_inputs):
        super().__init__(
            networks.encoder, networks.decoder,
            image_shape=networks.image_shape, latent_dim=networks.latent_dim,
        )  # fmt: skip
        self.pseudo_logits = nn.Parameter(torch.logit(pseudo_inputs.clamp(0.05, 0.95)))

    def components(self):
        """Return the posteriors of the pseudo-inputs."""
        mean, log_var = self.encode(self.pseudo_logits.sigmoid())
        return torch.distributions.Normal(mean, (0.5 * log_var).exp())

    def draw(self, x, draws, *, path_only=False):
        """Do what a VAE does, with the mixture's log-densities in the place of the prior's."""
        drawn = super().draw(x, draws, path_only=path_only)
        each = self.components().log_prob(drawn.z.unsqueeze(-2)).sum(-1)
        return drawn._replace(prior=each.logsumexp(-1) - math.log(each.shape[-1]))

    @torch.no_grad()
    def sample(self, n=64):
        """Decode draws from the mixture."""
        parts = self.components()
        chosen = torch.randint(len(parts.mean), (n,))
        return vb.decode(self, torch.normal(parts.mean[chosen], parts.stddev[chosen]))


class SampledELBO:
    """The negative ELBO by one draw, for any prior, with a KL weight that rises to 1."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def at(self, done):
        """Return the objective when a fraction of the training is behind."""
        return SampledELBO(min(done / LIKELIHOOD["warmup"], 1.0))

    def __call__(self, model, x):
        """Return the loss and its parts."""
        drawn = model.draw(x, 1)
        reconstruction, kl = -drawn.likelihood[0], (drawn.posterior - drawn.prior)[0]
        return vb.Terms(reconstruction + self.weight * kl, reconstruction, kl)


def falling(first):
    return lambda done: first * (1 - done)


def log_normal(z):
    return torch.distributions.Normal(0, 1).log_prob(z).sum(1)


@cache
def judge_of(dataset):
    """Return a judge, and its features of the test images."""
    data = vb.load(dataset)
    judge = vb.fidelity.train_judge(
        data.train[-FIDELITY["judge_images"] :], device="cpu", progress=False
    )
    return judge, vb.fidelity.features(judge, data.test)


@cache
def convolutional(dataset, seed):
    """Train a convolutional VAE, or read it; return it and its codes: to fit, and held out."""
    s, data = FIDELITY, vb.load(dataset)
    torch.manual_seed(seed)
    model = vb.conv_vae(data.image_shape, s["latent_dim"], width=s["width"])
    fit(
        model, data.train, epochs=EPOCHS[dataset], batch_size=s["batch_size"], lr=falling(s["lr"]),
        seed=seed, device="cpu", precision="float32", progress=False, resume=True,
        checkpoint=RUNS / f"priors-{dataset}-{seed}.safetensors",
    )  # fmt: skip
    # With noise of their own: of the same seed the first codes of both parts have the same noise.
    held_out = vb.sample_posterior(model, data.test[: s["held_out"]], seed=seed + 100)
    return model, vb.sample_posterior(model, data.train[: s["codes"]], seed=seed), held_out


@cache
def fitted_once(dataset, seed, name):
    """Return what `fitted` does for the codes of a convolutional VAE."""
    model, codes, _ = convolutional(dataset, seed)
    return fitted(name, model, vb.load(dataset).train, codes, seed)


def fitted(name, model, images, codes, seed):
    """Return a prior for the dimensions that carry something, and the processor seconds it took."""
    begun = time.process_time()
    how = STEPS[name] | {"progress": False} if name in STEPS else {}
    active = vb.posterior(model, images[:ACTIVE_BY]).mean.var(0) > ACTIVE_ABOVE
    prior = Subspace(active, PRIORS[name]()).fit(codes, seed=seed, **how)
    return prior, round(time.process_time() - begun, 1)


def copies_log_prob(model, images, z):
    """Return the log-density of codes under the posteriors of images, each with an equal share."""
    mean, std = (moment.double() for moment in vb.posterior(model, images))
    return log_mixture(z.double(), Normal(mean, 2 * std.log()))


def fidelity(dataset, seed, prior):
    """Return the distance of decoded draws from the test images, and what a density says of codes.

    `saved` is the gain on log p(z) over N(0, I) on held-out codes, and `saved_own` that on codes
    which the prior was fitted to.
    """
    data, (judge, real) = vb.load(dataset), judge_of(dataset)
    model, codes, held_out = convolutional(dataset, seed)
    n, log_prob, z = min(FIDELITY["draws"], len(data.test)), None, None
    row = {"fit_seconds": "", "draw_seconds": ""}
    if prior == "N(0, I)":
        z = vb.sample_prior(model, n, seed=seed + 10)
    elif prior == "drawn reconstructions":
        z = vb.sample_posterior(model, data.test, seed=seed + 100)
    elif prior == "codes of images":
        images = data.train[: FIDELITY["codes"]]
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
        z = vb.sample_posterior(model, images[chosen], seed=seed + 10)
        log_prob = partial(copies_log_prob, model, images)
    elif prior != "reconstructions":
        name, _, steps = prior.partition(", steps: ")
        made, row["fit_seconds"] = fitted_once(dataset, seed, name)
        begun = time.process_time()
        z = made.sample(n, seed=seed + 10, **{"steps": int(steps)} if steps else {})
        row["draw_seconds"] = round(time.process_time() - begun, 2)
        log_prob = made.log_prob if hasattr(made.prior, "log_prob") else None
    images = vb.reconstruct(model, data.test) if z is None else vb.decode(model, z)
    distance = vb.fidelity.frechet_distance(real, vb.fidelity.features(judge, images))
    saved = {"saved": "", "saved_error": "", "saved_own": ""}
    if log_prob is not None:
        own, new = (log_prob(some) - log_normal(some) for some in (codes[:2000], held_out))
        values = (new.mean(), new.std() / len(new) ** 0.5, own.mean())
        saved = {key: round(v.item(), 3) for key, v in zip(saved, values, strict=True)}
    return {
        "distance": round(distance, 3), **saved, **row,
        "kl": round(vb.evaluate(model, data.test)["kl"], 3),
    }  # fmt: skip


@cache
def dense(seed, vamp):
    """Train a dense VAE on binarized MNIST, with a VampPrior or without."""
    s, data = LIKELIHOOD, vb.load("mnist").binarized()
    torch.manual_seed(seed)
    model = vb.dense_vae(
        data.image_shape, s["latent_dim"], hidden=s["hidden"], activation=s["activation"]
    )
    if vamp:
        first = next(vb.data.minibatches(data.train[: s["pseudo_inputs"]], s["pseudo_inputs"])).x
        model = VampVAE(model, first)
    begun = time.process_time()
    fit(
        model, data.train, epochs=s["epochs"], batch_size=s["batch_size"], lr=falling(s["lr"]),
        objective=SampledELBO(), seed=seed, device="cpu", precision="float32",
        progress=False,
    )  # fmt: skip
    return model, round(time.process_time() - begun, 1)


@cache
def log_likelihoods(seed, prior):
    """Return log p of each test image, and the processor seconds that its last fit took."""
    s, data = LIKELIHOOD, vb.load("mnist").binarized()
    model, seconds = dense(seed, prior == "VampPrior")
    made = None
    if prior in PRIORS:
        torch.manual_seed(seed)  # by which images are binarized here
        codes = vb.sample_posterior(model, data.train[: s["codes"]], seed=seed)
        made, seconds = fitted(prior, model, data.train, codes, seed)
    random = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))
    images = data.test[random[: s["images"]]]
    found = vb.log_likelihood(model, images, draws=s["draws"], prior=made, seed=0, progress=False)
    return found.per_image, seconds


def likelihood(seed, prior):
    """Return -log p of the test images, and the gain over N(0, I) on the same images."""
    found, seconds = log_likelihoods(seed, prior)
    gain = found - log_likelihoods(seed, "N(0, I)")[0]
    return {
        "nll": round(-found.mean(), 3), "gain": round(gain.mean(), 3),
        "gain_error": round(gain.std(ddof=1) / len(gain) ** 0.5, 3), "fit_seconds": seconds,
    }  # fmt: skip


FRAMES = ("N(0, I)", "reconstructions", "drawn reconstructions", "codes of images")
FEWER_STEPS = ("flow matching, steps: 1", "flow matching, steps: 4")
PARTS = {
    "fidelity": (fidelity, [
        {"dataset": dataset, "seed": seed, "prior": prior}
        for dataset in EPOCHS for seed in SEEDS
        for prior in (*FRAMES, *PRIORS, *(FEWER_STEPS if dataset == "mnist" else ()))
    ]),
    "likelihood": (likelihood, [
        {"seed": seed, "prior": prior}
        for seed in SEEDS for prior in ("N(0, I)", "50 Gaussians", "VampPrior")
    ]),
}  # fmt: skip


def about():
    """Return what priors.json says."""
    sources = {dataset: vb.load(dataset).source for dataset in EPOCHS}
    return {
        "data": sources, "epochs": EPOCHS, "fidelity": FIDELITY, "likelihood": LIKELIHOOD,
        "steps": STEPS, "date": date.today().isoformat(),
        **vb.provenance(torch.device("cpu"), torch.float32, SEEDS[0]), "seed": SEEDS,
    }  # fmt: skip


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    return run_parts("priors", __doc__, PARTS, about, argv)


if __name__ == "__main__":
    raise SystemExit(main())
