import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

import vaebook as vb
from vaebook.data.images import minibatches
from vaebook.models.networks import Encoder

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = (torch.rand(6, 1, 8, 8, generator=GENERATOR) > 0.5).float()
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])


def conditional(**options):
    torch.manual_seed(0)
    return vb.conditional_vae((1, 8, 8), 4, classes=3, hidden=(20,), **options)


def by_hand(model, network, given, labels):
    """Write a network's input out, image by image."""
    hot = torch.eye(model.classes)[labels]
    pairs = zip(given, hot, strict=True)
    return network(torch.stack([torch.cat([a.flatten(), b]) for a, b in pairs]))


def test_networks_see_the_label_of_each_image():
    model = conditional()
    one = model.given(LABELS)
    for mine, wanted in zip(one.encode(IMAGES), by_hand(model, model.encoder, IMAGES, LABELS)):  # noqa: B905
        torch.testing.assert_close(mine, wanted)
    z = torch.randn(6, 4, generator=GENERATOR)
    torch.testing.assert_close(one.decode(z), by_hand(model, model.decoder, z, LABELS))
    assert not torch.allclose(one.decode(z), model.given(0).decode(z))


def test_weights_of_draws_against_torch_distributions():
    model = conditional()
    torch.manual_seed(1)
    draws = model.given(LABELS).draw(IMAGES, 3)
    mean, log_var = by_hand(model, model.encoder, IMAGES, LABELS)
    q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    logits = torch.stack([by_hand(model, model.decoder, z, LABELS) for z in draws.z])
    p = Independent(Bernoulli(logits=logits), 3).log_prob(IMAGES)
    prior = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    expected = p + prior.log_prob(draws.z) - q.log_prob(draws.z)
    torch.testing.assert_close(draws.log_weights, expected)


def test_a_label_for_all_is_that_label_for_each():
    model = conditional()
    one, each = model.given(2).encode(IMAGES), model.given([2] * 6).encode(IMAGES)
    torch.testing.assert_close(one, each)
    torch.manual_seed(3)
    samples = model.given(range(3)).sample(6)
    torch.manual_seed(3)
    z = torch.randn(6, 4)
    torch.testing.assert_close(samples, model.given([0, 1, 2] * 2).decode(z).sigmoid())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (3, r"labels: expected labels from 0 to 2, got 3 to 3"),
        ([0, -1], r"labels: expected labels from 0 to 2, got -1 to 0"),
        (0.5, r"labels: expected whole numbers in a row, got tensor\(\[0\.5"),
        ([], r"labels: expected whole numbers"),
    ],
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(ValueError, match=message):
        conditional().given(labels)


def test_labels_of_another_number_than_images():
    with pytest.raises(ValueError, match=r"labels: expected one label, or .* divide 6 .* 4"):
        conditional().given([0, 1, 2, 0]).encode(IMAGES)


def test_a_model_given_labels_has_its_mode_and_leaves_the_modes_of_shared_networks():
    norm = torch.nn.BatchNorm1d(67)
    encoder = Encoder(torch.nn.Sequential(norm, torch.nn.Linear(67, 5)), 5, 4)
    decoder = torch.nn.Sequential(torch.nn.Linear(7, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    model = vb.ConditionalVAE(encoder, decoder, classes=3, image_shape=(1, 8, 8), latent_dim=4)
    norm.eval()  # frozen, as in fine-tuning
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    for training in (True, False):
        model.training = training
        one = model.given(LABELS)
        assert one.training is training
        assert not norm.training
        one(IMAGES)
        one.sample(6)
        assert not norm.training
        assert encoder.training
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


def test_nothing_works_without_labels():
    model = conditional()
    for call in (
        lambda: model(IMAGES),
        lambda: model.sample(2),
        lambda: vb.decode(model, torch.zeros(2, 4)),
    ):
        with pytest.raises(ValueError, match=r"labels: expected .* model\.given\(labels\)"):
            call()
    with pytest.raises(ValueError, match=r"^labels: expected those of the images, .* got none$"):
        vb.fit(model, IMAGES, epochs=1, progress=False)
    with pytest.raises(ValueError, match="classes: expected a positive whole number, got 0"):
        vb.conditional_vae((1, 8, 8), 4, classes=0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_minibatches_keep_images_and_labels_together(shuffled):
    model, plain = conditional(), vb.dense_vae((1, 8, 8), 4, hidden=(3,))
    coded = LABELS[:, None, None, None].expand(6, 1, 8, 8).to(torch.uint8)
    images = vb.Images(coded, LABELS)
    generator = torch.Generator().manual_seed(0) if shuffled else None
    seen = []
    for x, labels, _ in minibatches(images, 4, generator=generator):
        assert plain.given(labels) is plain
        one = model.given(labels)
        assert one.encoder.network is model.encoder
        torch.testing.assert_close((x[:, 0, 0, 0] * 255).long(), one.encoder.labels)
        seen.append(one.encoder.labels)
    assert sorted(torch.cat(seen).tolist()) == sorted(LABELS.tolist())
    assert shuffled is not torch.equal(torch.cat(seen), LABELS)


def test_what_takes_images_takes_their_labels():
    model, images = conditional(), vb.as_images(IMAGES, LABELS)
    mean, _ = by_hand(model, model.encoder, IMAGES, LABELS)
    torch.testing.assert_close(torch.from_numpy(vb.embed(model, images)), mean.detach())
    pictures = by_hand(model, model.decoder, mean, LABELS).sigmoid()
    torch.testing.assert_close(vb.reconstruct(model, images), pictures)
    likelihood = vb.log_likelihood(model, images, draws=2000, progress=False)
    one = model.given(LABELS)  # the same as each image on its own
    with torch.no_grad():
        draws = one.draw(IMAGES, 2000).log_weights
    np.testing.assert_allclose(likelihood.per_image, vb.importance_bound(draws), atol=0.3)
    pairs = list(zip(IMAGES, LABELS.tolist(), strict=True))
    loader = torch.utils.data.DataLoader(pairs, batch_size=6)
    losses = [vb.evaluate(model, given)["loss"] for given in (loader, images)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # a DataLoader draws numbers of its own


def test_learns_to_draw_the_class_it_is_given(tmp_path):
    """Images of three classes, each with its own third of the rows lit."""
    labels = torch.arange(3).repeat(100)
    pixels = torch.zeros(300, 1, 9, 9)
    for row in range(3):
        pixels[labels == row, :, 3 * row : 3 * row + 3] = 1.0
    images = vb.as_images(pixels, labels)
    torch.manual_seed(0)
    model = vb.conditional_vae((1, 9, 9), 2, classes=3, hidden=(30,), activation="relu")
    vb.fit(model, images, epochs=30, batch_size=30, lr=1e-2, progress=False)
    assert vb.evaluate(model, images)["loss"] < 2
    drawn = model.given(range(3)).sample(30).unflatten(0, (10, 3)).unflatten(3, (3, 3))
    lit = drawn.mean((0, 2, 4, 5))
    torch.testing.assert_close(lit, torch.eye(3), atol=0.05, rtol=0)

    vb.save(model, tmp_path / "model.safetensors")
    again = vb.load_model(tmp_path / "model.safetensors")
    z = torch.randn(3, 2)
    torch.testing.assert_close(again.given(1).decode(z), model.given(1).decode(z))
    assert str(again) == str(vb.summary(model.given(2)))
    assert vb.summary(model).parameters == sum(part.numel() for part in model.parameters())


def test_fit_repeats_and_resumes(tmp_path):
    images = vb.as_images(IMAGES, LABELS)
    whole, parts = conditional(), conditional()
    vb.fit(whole, images, epochs=2, progress=False)
    kept = tmp_path / "run.safetensors"
    vb.fit(parts, images, epochs=1, checkpoint=kept, progress=False)
    vb.fit(parts, images, epochs=2, checkpoint=kept, resume=True, progress=False)
    for a, b in zip(whole.parameters(), parts.parameters()):  # noqa: B905
        torch.testing.assert_close(a, b)
