"""The experiment behind *A VAE at work*."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import diags_array
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph
from sklearn.semi_supervised import LabelSpreading
from torch.distributions import Bernoulli, MultivariateNormal, Normal

import vaebook as vb
from experiments import uses
from experiments.records import RESULTS


@pytest.fixture(scope="module")
def there(definitions):
    return definitions("a-vae-at-work")


def holes(n=6, pixels=(1, 3, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, train = (torch.rand(some, *pixels, generator=generator).round() for some in (n, 40))
    hidden = torch.rand(x.shape, generator=generator) < 0.5
    return train, x, hidden


def test_nothing_is_missing_and_what_is_done_is_left_alone(capsys):
    before = (RESULTS / "uses.json").read_bytes()
    assert uses.main([]) == uses.main(["--list"]) == 0
    assert (RESULTS / "uses.json").read_bytes() == before
    told = capsys.readouterr().out
    for part, (_, cells) in uses.PARTS.items():
        assert f"{part}: {len(cells)} of {len(cells)} runs done" in told


def test_the_visible_pixels_of_each_image_under_each_code(there):
    _, x, hidden = holes()
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    expected = [
        [Bernoulli(logits=code).log_prob(image.flatten())[~gone.flatten()].sum() for code in logits]
        for image, gone in zip(x, hidden, strict=True)
    ]
    for function in (uses.visible_log_p, lambda *a: there["visible_log_p"](a[2], a[0], a[1])):
        torch.testing.assert_close(function(x, hidden, logits), torch.tensor(expected))


def test_resampled_codes_are_weighted_by_what_they_say_of_visible_pixels():
    torch.manual_seed(0)
    model = vb.dense_vae((1, 3, 4), latent_dim=2, hidden=(5,))
    _, x, hidden = holes()
    z = torch.randn(7, 2)
    made = uses.resampled(model, z, x, hidden, power=0.5)
    for image, gone, found in zip(x, hidden, made, strict=True):
        chance = vb.decode(model, z)
        each = Bernoulli(chance).log_prob(image)
        weights = [math.exp(0.5 * one[~gone].sum()) for one in each]
        expected = sum(w * p for w, p in zip(weights, chance, strict=True)) / sum(weights)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_differ_least_in_visible_pixels(k, there):
    train, x, hidden = holes()
    made = uses.neighbours(train, x, hidden, k)
    assert torch.equal(there["neighbours"](train, x, hidden, k), made)
    for image, gone, found in zip(x, hidden, made, strict=True):
        differ = [(one - image)[~gone].square().sum().item() for one in train]
        worst = sorted(differ)[k - 1]
        near = [one for one, d in zip(train, differ, strict=True) if d <= worst]
        assert any(  # of those at equal distance any may be taken
            torch.allclose(torch.stack(some).mean(0), found)
            for some in itertools.islice(itertools.combinations(near, k), 5000)
        )


def test_the_gaussian_predicts_as_a_joint_normal_does():
    train, x, hidden = holes()
    noise, rows = 0.2, train.flatten(1).double()
    made = uses.gaussian(train, x, hidden, noise)
    covariance = rows.T.cov()
    for image, gone, found in zip(x.flatten(1), hidden.flatten(1), made.flatten(1), strict=True):
        noisy = covariance + noise * torch.diag((~gone).double())
        full = image.double().clone().requires_grad_()
        joint = MultivariateNormal(rows.mean(0), noisy + 1e-9 * torch.eye(12))
        precision = joint.precision_matrix  # the mode given the visible pixels is the mean
        shift = torch.linalg.solve(
            precision[gone][:, gone], precision[gone][:, ~gone] @ (full - joint.mean)[~gone]
        )
        expected = (joint.mean[gone] - shift).float()
        torch.testing.assert_close(found[gone], expected, rtol=1e-3, atol=1e-4)


def test_chains_of_a_decoder_that_ignores_its_code():
    model = vb.dense_vae((1, 28, 28), latent_dim=2, hidden=(4,))
    last = model.decoder[-2] if not hasattr(model.decoder[-1], "weight") else model.decoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(math.log(3))
    x = torch.ones(2, 1, 28, 28)
    hidden = uses.hidden_pixels(2, "square", 0)
    for proposals in (1, 3):
        made = uses.chains(model, torch.tensor(0.5), x, hidden, 2, proposals)
        torch.testing.assert_close(made, torch.full_like(x, 0.75))


@pytest.mark.parametrize(("kind", "share"), [("lower half", 0.5), ("square", 0.25), ("", 0.8)])
def test_how_much_is_hidden(kind, share):
    hidden = uses.hidden_pixels(50, kind, 0)
    assert hidden.float().mean().item() == pytest.approx(share, abs=0.01)


def test_the_cost_and_the_calibration_of_predictions(there):
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(300, 1, 10, 10, generator=generator)
    hidden = torch.rand(chance.shape, generator=generator) < 0.5
    x = torch.bernoulli(chance, generator=generator)
    nats, square, error = uses.judged(chance, x, hidden)
    expected = -(Bernoulli(chance).log_prob(x) * hidden).flatten(1).sum(1)
    torch.testing.assert_close(nats, expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(there["nats"](chance, x, hidden), nats)
    assert square == pytest.approx((chance - x)[hidden].square().mean().item(), rel=1e-4)
    assert error < 0.02  # a draw of 0.9 is 10 times as likely white as one of 0.09
    _, _, worst = uses.judged(1 - chance, x, hidden)
    assert worst == pytest.approx(0.5, abs=0.02)  # the mean of |1 - 2p| for an even p


def test_auroc_is_the_share_of_pairs_in_order(there):
    random = np.random.default_rng(0)
    usual, odd = random.normal(size=50), random.normal(1, 1, 30)
    pairs = np.mean([a < b for a in usual for b in odd])
    assert uses.auroc(usual, odd) == there["auroc"](usual, odd) == pytest.approx(pairs)


def test_ahead_is_the_difference_to_the_best_simple_method():
    random = np.random.default_rng(0)
    usual = {"a": random.normal(size=400), "b": random.normal(size=400)}
    odd = {"a": random.normal(2, 1, 300), "b": random.normal(0.2, 1, 300)}
    usual["c"], odd["c"] = random.normal(size=400), random.normal(1, 1, 300)
    found = uses.compared(usual, odd, "c", ("a", "b"), seed=0)
    of = {name: uses.auroc(usual[name], odd[name]) for name in "abc"}
    assert found["ahead"] == pytest.approx(of["c"] - of["a"], abs=1e-3)
    assert 0.01 < found["ahead_error"] < 0.04
    assert uses.compared(usual, odd, "a", ("a", "b"), seed=0)["ahead"] == 0


def test_the_length_of_a_png_file_in_nats(there):
    grey = vb.Images(torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8))
    found = uses.png_nats(grey)
    assert (found == there["png_nats"](grey)).all()
    assert (found / (8 * math.log(2)) > 28 * 28).all()  # noise cannot be compressed
    black = vb.Images(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))
    assert (uses.png_nats(black) / (8 * math.log(2)) < 120).all()


def tiny(dim=2, classes=3):
    torch.manual_seed(0)
    model = uses.LabelledCodes(dim, classes, uses.LABELS | {"hidden": 6, "latent_dim": 1})
    return model.double()


def test_the_cost_of_a_labelled_code_is_a_bound():
    """Its mean over draws lies above -log p(h, y) by quadrature, and the gap is small."""
    model = tiny()
    h, y = torch.randn(1, 2).double(), torch.eye(3)[[1]].double()
    with torch.no_grad():
        z = torch.linspace(-8, 8, 4001)[:, None].double()
        out = model.decoder(torch.cat([z, y.expand(len(z), -1)], 1))
        location, log_scale = out.chunk(2, 1)
        log_joint = Normal(location, log_scale.clamp(-3, 2).exp()).log_prob(h).sum(1)
        log_joint = log_joint + Normal(0, 1).log_prob(z[:, 0]) - math.log(3)
        exact = -(log_joint.logsumexp(0) + math.log(16 / 4000)).item()
        costs = model.cost(h.expand(20_000, -1), y.expand(20_000, -1))
    assert exact < costs.mean().item() < exact + 2


def test_the_cost_without_a_label_sums_over_labels(there):
    model = tiny().float()
    h = torch.randn(5, 2)
    with torch.no_grad():
        torch.manual_seed(1)
        found = model.unlabelled_cost(h)
        torch.manual_seed(1)
        chapters = there["unlabelled_cost"](model, h)
        torch.manual_seed(1)
        costs = model.cost(h.repeat_interleave(3, 0), torch.eye(3).repeat(5, 1)).view(5, 3)
        q = model.classifier(h).softmax(1)
    expected = [sum(q[i, y] * (costs[i, y] + q[i, y].log()) for y in range(3)) for i in range(5)]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(chapters, found)


def test_the_chapter_has_the_same_model(there):
    model = there["LabelledCodes"](4, 3)
    twin = uses.LabelledCodes(4, 3)
    twin.load_state_dict(model.state_dict())
    h, y = torch.randn(6, 4), torch.eye(3).repeat(2, 1)
    torch.manual_seed(0)
    expected = twin.cost(h, y)
    torch.manual_seed(0)
    assert torch.equal(model.cost(h, y), expected)


def test_two_blobs_need_two_labels():
    torch.manual_seed(0)
    means = torch.cat([torch.randn(300, 2) * 0.3 + 2, torch.randn(300, 2) * 0.3 - 2])
    truth = torch.arange(2).repeat_interleave(300)
    known = torch.tensor([0, 300])
    settings = uses.LABELS | {"steps": 200, "hidden": 30, "latent_dim": 1}
    classifier = uses.train_labelled(
        (means, torch.full_like(means, 0.05)), known, truth[known], 2, 0, settings
    )
    assert (classifier(means).argmax(1) == truth).float().mean() > 0.98


def test_known_labels_are_spread_over_classes():
    labels = torch.arange(10).repeat(30)
    known = uses.known_labels(labels, 50, seed=1)
    assert len(known.unique()) == 50
    assert torch.equal(labels[known].bincount(), torch.full((10,), 5))
    assert not torch.equal(known, uses.known_labels(labels, 50, seed=2))


def test_a_collection_has_a_few_of_a_rare_kind(monkeypatch):
    monkeypatch.setattr(uses, "PICTURES", uses.PICTURES | {"size": 16, "pictures": 70, "odd": 3})
    images, is_rare = uses.collection.__wrapped__("cells", 0)
    assert images.image_shape == (3, 16, 16)
    assert (len(images), is_rare.sum()) == (73, 3)


def test_labels_spread_as_scikit_learn_has_it(monkeypatch):
    monkeypatch.setattr(uses, "LABELS", uses.LABELS | {"rounds": 400, "spread": 0.8})
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(side, 0.6, (30, 2)) for side in (-1, 1)])
    known, labels = np.array([0, 1, 30, 31]), torch.tensor([0, 0, 1, 1])
    weights = kneighbors_graph(x, 5)
    weights = weights.maximum(weights.T)
    scale = diags_array(np.asarray(weights.sum(0)).ravel() ** -0.5)
    found = uses.spread(scale @ weights @ scale, known, labels, 2)
    theirs = LabelSpreading(kernel=lambda a, b: weights.toarray(), alpha=0.8, max_iter=400, tol=0)
    given = np.full(60, -1)
    given[known] = labels
    with warnings.catch_warnings(action="ignore"):  # of no convergence: no change is below 0
        distributions = theirs.fit(x, given).label_distributions_
    shares = found / found.sum(1, keepdims=True)
    assert (shares.argmax(1) == distributions.argmax(1)).mean() > 0.95
    assert np.abs(shares - distributions).max() < 0.1  # ours weighs classes alike


def test_a_graph_has_the_nearest_neighbours(monkeypatch):
    few = [some[:60] for some in (vb.load("digits").train, vb.load("digits").test)]
    monkeypatch.setattr(uses, "parts_of", lambda dataset: (few[0], few[1], few[1]))
    settings = uses.LABELS | {"graph_components": 8, "neighbours": 3}
    monkeypatch.setattr(uses, "LABELS", settings)
    edges, near = uses.graph.__wrapped__("digits", 0, of_codes=False)
    assert edges.shape == (60, 60)
    assert near.shape == (60, 3)
    edges = edges.toarray()
    assert np.allclose(edges, edges.T)
    assert (edges.diagonal() == 0).all()
    assert ((edges > 0).sum(1) >= 3).all()
    assert np.linalg.eigvalsh(edges).max() == pytest.approx(1)  # of a normalized graph
    components = PCA(8, random_state=0).fit(uses.flat(few[0]))
    x, y = (components.transform(uses.flat(some)) for some in few)
    expected = np.linalg.norm(y[:, None] - x, axis=2).argsort(1)[:, :3]
    assert (np.sort(near) == np.sort(expected)).mean() > 0.98


def test_a_distance_that_is_usual_for_its_length_scores_0():
    lengths = np.array([100.0, 200.0, 400.0, 800.0])
    usual = 3 * lengths**0.7, lengths
    assert uses.given_length(3 * 300**0.7, 300.0, usual) == pytest.approx(0, abs=1e-9)
    assert uses.given_length(6 * 300**0.7, 300.0, usual) == pytest.approx(math.log(2))
