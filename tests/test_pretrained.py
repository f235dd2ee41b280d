"""The models that come with the package: there, whole, and as good as their cards say."""

import inspect
import json
import shutil
import socket

import pytest
import torch

import vaebook as vb
from experiments import pretrain
from vaebook import zoo
from vaebook.zoo import pretrained, pretrained_card

NAMES = list(pretrain.MODELS)
each_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of the folder of weights, which the package then reads."""
    folder = tmp_path / "weights"
    shutil.copytree(zoo.WEIGHTS, folder)
    monkeypatch.setattr(zoo, "WEIGHTS", folder)
    return folder


@each_model
def test_a_model_loads_without_a_network_ready_for_evaluation(name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pretrained model reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    model = pretrained(name)
    assert isinstance(model, vb.VAE)
    assert not model.training
    assert model.image_shape == (1, 28, 28)
    assert f"{model.latent_dim}d" == name.split("-")[1]


@each_model
def test_the_card_tells_where_a_model_comes_from(name):
    card, model = pretrained_card(name), pretrained(name)
    settings = pretrain.MODELS[name]
    assert {key: card[key] for key in settings} == settings
    assert card["parameters"] == sum(weights.numel() for weights in model.parameters())
    assert card["loss"] == pytest.approx(card["reconstruction"] + card["kl"], abs=0.002)
    assert (card["train_images"], card["test_images"]) == (60_000, 10_000)
    assert card["data"].startswith("mnist, ")
    assert "MIT" in card["licence"]
    told = {"about", "device", "precision", "threads", "vaebook", "torch", "python", "date"}
    assert all(card[key] for key in told)


def test_more_dimensions_draw_more_exactly():
    plane, space = map(pretrained_card, NAMES)
    assert plane["reconstruction"] > space["reconstruction"] + 20
    assert plane["loss"] < 150
    assert space["loss"] < 105


@each_model
def test_a_card_is_a_copy_of_the_readers_own(name):
    pretrained_card(name).clear()
    assert pretrained_card(name)["loss"] > 0


@pytest.mark.slow
@each_model
def test_the_loss_on_the_card_is_that_of_the_test_images(name):
    try:
        data = vb.load("mnist", download=False)
    except (ValueError, OSError):
        pytest.skip("MNIST is not at hand (VAEBOOK_DATA tells where to look)")
    card, row = pretrained_card(name), vb.evaluate(pretrained(name), data.test)
    for part in ("loss", "reconstruction", "kl"):
        assert row[part] == pytest.approx(card[part], abs=0.1)


@each_model
def test_the_code_0_decodes_to_as_much_ink_as_the_card_says(name):
    model = pretrained(name)
    ink = vb.decode(model, torch.zeros(1, model.latent_dim)).sum().item()
    assert ink == pytest.approx(pretrained_card(name)["ink"], abs=0.05)


@each_model
def test_an_image_keeps_its_shape_through_a_model(name):
    model = pretrained(name)
    images = vb.decode(model, vb.sample_prior(model, 64))
    again = vb.reconstruct(model, images)
    assert (again - images).abs().mean() < 0.05  # black pages would be 0.12 off


def test_all_files_together_are_small_and_are_those_of_the_cards():
    files = {path.name: path.stat().st_size for path in zoo.WEIGHTS.iterdir()}
    weights = {f"{name}.safetensors" for name in NAMES}
    assert set(files) == weights | {"cards.json", "README.md"}
    assert list(pretrain.read_cards()) == NAMES
    for name in NAMES:
        assert files[f"{name}.safetensors"] == pretrained_card(name)["bytes"] < 3_000_000


def test_the_readme_is_written_from_the_cards():
    text = (zoo.WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert text == pretrain.readme(pretrain.read_cards())
    for name in NAMES:
        assert all(str(value) in text for value in pretrained_card(name).values())


def test_the_docstring_names_every_model():
    assert all(f'"{name}"' in inspect.getdoc(pretrained) for name in NAMES)


@pytest.mark.parametrize("call", [pretrained, pretrained_card])
def test_an_unknown_name_is_answered_with_the_known_ones(call):
    with pytest.raises(ValueError, match=r"^name: expected one of .*, got 'mnist-3d'") as error:
        call("mnist-3d")
    assert all(name in str(error.value) for name in NAMES)


@each_model
def test_missing_weights_are_named_with_what_to_do(name, installed):
    (installed / f"{name}.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=f"^name: .*{name}.* is missing; installing"
    ) as error:
        pretrained(name)
    assert "\n" not in str(error.value)
    assert pretrained_card(name)["latent_dim"] > 0


def test_an_installation_without_any_weights_says_so(installed):
    shutil.rmtree(installed)
    for call in (pretrained, pretrained_card):
        with pytest.raises(FileNotFoundError, match=r"^name: .*cards\.json is missing; installing"):
            call(NAMES[0])


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "empty", "another model"])
def test_damaged_weights_are_refused_with_what_to_do(damage, installed):
    path = installed / f"{NAMES[0]}.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {
        "a flipped bit": bytes(content), "cut off": bytes(content[:-100]), "empty": b"",
        "another model": (installed / f"{NAMES[1]}.safetensors").read_bytes(),
    }  # fmt: skip
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=f"^name: .*{NAMES[0]}.* damaged; .*install") as error:
        pretrained(NAMES[0])
    assert "\n" not in str(error.value)
    assert pretrained(NAMES[1]).latent_dim == 32


def test_damaged_cards_are_refused_with_what_to_do(installed):
    (installed / "cards.json").write_text('{"mnist-2d": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"^name: .*cards\.json.* is damaged; .*install"):
        pretrained(NAMES[0])


# --- the script that made them --------------------------------------------------------------


def test_a_short_training_is_kept_with_its_card_and_goes_on_where_it_stopped(tmp_path, installed):
    data, short = vb.load("digits"), {"epochs": 2, "width": 2, "batch_size": 512}
    first, _ = pretrain.train("mnist-2d", data, runs=tmp_path, **short)
    again, card = pretrain.train("mnist-2d", data, runs=tmp_path, **short)
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(first.eval().encode(x)[0], again.eval().encode(x)[0])
    pretrain.keep("mnist-2d", again, card, folder=installed)
    found = pretrained("mnist-2d")
    assert torch.equal(found.encode(x)[0], again.encode(x)[0])
    assert vb.evaluate(found, data.test)["loss"] == pytest.approx(card["loss"], abs=0.01)
    assert pretrained_card("mnist-2d")["precision"] == card["precision"]
    assert pretrained_card("mnist-32d")["width"] == pretrain.MODELS["mnist-32d"]["width"]
    assert sorted(path.name for path in installed.iterdir()) == sorted(
        path.name for path in zoo.WEIGHTS.iterdir()
    )


def test_what_is_there_is_not_trained_again(capsys):
    assert pretrain.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: done" for name in NAMES]
    assert pretrain.main([]) == 0
    assert not capsys.readouterr().out


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        pretrain.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--model", "--list", "cards.json", "runs/", *NAMES))


def test_cards_are_plain_json():
    text = (zoo.WEIGHTS / "cards.json").read_text(encoding="utf-8")
    assert text == json.dumps(pretrain.read_cards(), indent=1) + "\n"
