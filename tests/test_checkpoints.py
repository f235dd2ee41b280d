import errno
import json
import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vaebook as vb
from vaebook.training.checkpoints import load_weights, read

BUILD = {
    "conv": lambda: vb.conv_vae((3, 17, 20), latent_dim=3, width=2),
    "dense": lambda: vb.dense_vae((3, 17, 20), latent_dim=3, hidden=(9, 8), activation="tanh"),
}


@pytest.fixture
def saved(tmp_path):
    """A model and the file it was saved to."""
    model, path = BUILD["conv"](), tmp_path / "model.safetensors"
    vb.save(model, path)
    return model, path


def rewrite(path, **changes):
    """Write the file's tensors again under a header with some entries changed."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vaebook"])
    save_file(load_file(path), path, {"vaebook": json.dumps(header | changes)})


@torch.no_grad()
@pytest.mark.parametrize("kind", BUILD)
def test_a_model_comes_back_as_it_was(kind, tmp_path):
    model, path = BUILD[kind](), tmp_path / "new" / "folder" / "model.safetensors"
    model(torch.rand(9, 3, 17, 20))  # moves the running statistics of batch norm
    vb.save(model, path)
    again = vb.load_model(path)
    assert not again.training
    assert again.config == model.config
    assert (again.image_shape, again.latent_dim) == (model.image_shape, model.latent_dim)
    state = model.state_dict()
    assert list(again.state_dict()) == list(state)
    assert all(value.equal(state[name]) for name, value in again.state_dict().items())
    x, z = torch.rand(4, 3, 17, 20), torch.randn(4, 3)
    model.eval()
    assert all(a.equal(b) for a, b in zip(again.encode(x), model.encode(x), strict=True))
    assert again.decode(z).equal(model.decode(z))
    vb.save(again, path)  # what was loaded can be saved
    assert vb.load_model(str(path)).decode(z).equal(model.decode(z))


def test_a_file_is_json_and_numbers_and_no_pickle(saved):
    model, path = saved
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["vaebook"])["config"]["latent_dim"] == 3
    numbers = sum(value.numel() * value.itemsize for value in model.state_dict().values())
    assert len(content) == 8 + length + numbers
    assert len(header) == len(model.state_dict())


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"^path: .*model.safetensors is damaged"):
        vb.load_model(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other"
    for content in (b"not a model at all", pickle.dumps({"a": 1}), b"\xff" * 4096):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path: .*other is damaged or no safetensors"):
            vb.load_model(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"^path: .*other holds tensors, but no vaebook model"):
        vb.load_model(path)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^path: .*{path.name}"):
            vb.load_model(path)


def test_a_file_of_a_newer_version_says_so(saved):
    _, path = saved
    rewrite(path, format=999, version="99.1")
    with pytest.raises(ValueError, match=r"^path: .*vaebook 99\.1"):
        vb.load_model(path)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 4},
        {"width": 3},
        {"width": 0},
        {"depth": 9},
        {"builder": "os.system"},
        {"likelihood": "none"},
        {"image_shape": [3, 17]},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_is_refused(saved, change):
    model, path = saved
    rewrite(path, config=model.config | change)
    with pytest.raises(ValueError, match=r".") as error:
        vb.load_model(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_model_made_by_hand_cannot_be_saved(saved, tmp_path):
    model, _ = saved
    by_hand = vb.VAE(model.encoder, model.decoder, image_shape=(3, 17, 20), latent_dim=3)
    for write in (
        lambda: vb.save(by_hand, tmp_path / "hand"),
        lambda: vb.fit(by_hand, torch.rand(4, 3, 17, 20), epochs=1, checkpoint=tmp_path / "hand"),
    ):
        with pytest.raises(ValueError, match=r"^model: "):
            write()
    assert not (tmp_path / "hand").exists()


def fail(*_):
    raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("name", ["os.replace", "os.fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(saved, monkeypatch, name):
    model, path = saved
    before = path.read_bytes()
    torch.nn.init.zeros_(next(model.parameters()))
    with monkeypatch.context() as patched:
        patched.setattr(name, fail)
        with pytest.raises(OSError, match=r"no space left: '.*model\.safetensors'"):
            vb.save(model, path)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before
    vb.save(model, path)
    assert path.read_bytes() != before


def test_two_threads_may_save_to_one_place(saved):
    model, path = saved
    states = []

    def save_often(_):
        for _ in range(20):
            vb.save(model, path)
            states.append(vb.load_model(path).state_dict())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save_often, range(4)))
    expected = model.state_dict()
    assert len(states) == 80
    assert all(each.equal(expected[name]) for held in states for name, each in held.items())
    assert os.listdir(path.parent) == [path.name]


def replace_likelihood(model):
    model.likelihood = vb.likelihoods.Gaussian(0.3)


def replace_an_activation(model):
    for module in model.modules():
        for name, part in module.named_children():
            if isinstance(part, torch.nn.LeakyReLU | torch.nn.Tanh):
                setattr(module, name, torch.nn.ELU())


def replace_decoder(model):
    model.decoder = torch.nn.Sequential(model.decoder, torch.nn.Identity())


@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize("change", [replace_likelihood, replace_an_activation, replace_decoder])
def test_a_model_changed_after_it_was_built_is_not_saved_as_the_old_one(kind, change, tmp_path):
    model = BUILD[kind]()
    change(model)
    images = torch.rand(4, 3, 17, 20)
    for write in (
        lambda: vb.save(model, tmp_path / "changed"),
        lambda: vb.fit(model, images, epochs=1, checkpoint=tmp_path / "changed", progress=False),
    ):
        with pytest.raises(ValueError, match=r"^model: expected one as its config"):
            write()
    assert not any(tmp_path.iterdir())


@torch.no_grad()
@pytest.mark.parametrize("part", [None, "decoder"])
def test_a_compiled_model_is_saved_as_the_plain_one(saved, tmp_path, part):
    model, _ = saved
    codes, expected = torch.randn(4, 3), model.state_dict()
    whole = torch.compile(model)
    model.decoder = torch.compile(model.decoder)
    for number, each in enumerate([whole, model]):
        vb.save(each, tmp_path / str(number), part=part)
        again = vb.load_model(tmp_path / str(number), part=part)
        names = {f"decoder.{name}" if part else name for name in again.state_dict()}
        assert names <= expected.keys()
        decoder = again if part else again.decoder
        plain = getattr(model.decoder, "_orig_mod", model.decoder).eval()
        torch.testing.assert_close(decoder(codes), plain(codes))


def odd_vae(image_shape, latent_dim):
    """A builder that needs numbers, shares weights, and has modules whose words tell a device."""
    model = vb.dense_vae(image_shape, latent_dim, hidden=(9,))
    model.encoder.rate = float(torch.linspace(0, 1, 3)[1])
    model.encoder.log_var.weight = model.encoder.mean.weight
    model.encoder.more = torch.nn.ParameterDict({"x": torch.nn.Parameter(torch.ones(2))})
    torch.nn.utils.parametrizations.orthogonal(model.encoder.mean)
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", ["odd", "compiled encoder"])
def test_unusual_models_are_saved_too(kind, tmp_path):
    build = vb.register(odd_vae)
    model = build((1, 4, 4), 2) if kind == "odd" else vb.dense_vae((1, 4, 4), 2)
    if kind == "compiled encoder":
        model.encoder = torch.compile(model.encoder)
    vb.save(model, tmp_path / "model")
    z = torch.randn(3, 2)
    assert vb.load_model(tmp_path / "model").decode(z).equal(model.eval().decode(z))


@pytest.mark.parametrize("part", ["all", "decoder"])
def test_weights_are_taken_up_by_a_compiled_model(saved, part):
    model, path = saved
    _, tensors = read(path)
    other = BUILD["conv"]()
    compiled = torch.compile(other) if part == "all" else other
    if part == "decoder":
        other.decoder = torch.compile(other.decoder)
    load_weights(compiled, tensors, path)
    expected = model.state_dict()
    state = {name.replace("_orig_mod.", ""): value for name, value in other.state_dict().items()}
    assert state.keys() == expected.keys()
    assert all(value.equal(expected[name]) for name, value in state.items())


def test_saving_draws_no_random_numbers(saved, tmp_path):
    before = torch.get_rng_state()
    vb.save(saved[0], tmp_path / "model")
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(saved, tmp_path, value):
    model, path = saved
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    next(iter(tensors.values())).view(-1)[0] = value
    content = json.loads(header["vaebook"])
    del content["checksum"]
    save_file(tensors, tmp_path / "foreign", {"vaebook": json.dumps(content)})
    with pytest.raises(ValueError, match=r"^path: expected finite numbers in .* got others in "):
        vb.load_model(tmp_path / "foreign")
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = value
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^model: expected finite numbers to save"):
        vb.save(model, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_are_refused(saved, tmp_path, kind):
    _, path = saved
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(header["vaebook"])
    del content["checksum"]
    name = next(name for name in tensors if tensors[name].is_floating_point())
    tensors[name] = tensors[name].to(kind)
    save_file(tensors, tmp_path / "odd", {"vaebook": json.dumps(content)})
    with pytest.raises(ValueError, match=r"^path: .*do not fit the model.*torch\."):
        vb.load_model(tmp_path / "odd")


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_found(saved, tmp_path, seed):
    _, path = saved
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little") + 8
    at = length + seed * 7919 % (len(content) - length)
    content[at] ^= 1 << seed % 8
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: .* is damaged"):
        vb.load_model(tmp_path / "flipped")


def test_the_device_of_a_loaded_model_may_be_chosen(saved):
    assert vb.load_model(saved[1], device="auto").device == vb.pick_device()
    with pytest.raises(ValueError, match=r"^device: "):
        vb.load_model(saved[1], device="abacus")


@torch.no_grad()
@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_comes_back_from_its_own_file_and_from_the_whole_models(kind, part, tmp_path):
    model = BUILD[kind]()
    model(torch.rand(9, 3, 17, 20))  # moves the running statistics of batch norm
    model.eval()
    vb.save(model, tmp_path / "whole")
    vb.save(model, tmp_path / "part", part=part)
    network = getattr(model, part)
    given = torch.rand(4, 3, 17, 20) if part == "encoder" else torch.randn(4, 3)
    for name in ("whole", "part"):
        again = vb.load_model(tmp_path / name, part=part)
        assert type(again) is type(network)
        assert not again.training
        torch.testing.assert_close(again(given), network(given), rtol=0, atol=0)
    held = load_file(tmp_path / "part")
    assert held.keys() == {f"model.{part}.{name}" for name in network.state_dict()}


def test_the_parts_hold_all_of_a_model_but_its_likelihood(tmp_path):
    model = vb.dense_vae((1, 4, 4), latent_dim=2, hidden=(3,), likelihood="gaussian")
    for part in ("encoder", "decoder", None):
        vb.save(model, tmp_path / str(part), part=part)
    parts = load_file(tmp_path / "encoder") | load_file(tmp_path / "decoder")
    assert load_file(tmp_path / "None").keys() - parts.keys() == {"model.likelihood.log_sigma"}


@pytest.mark.usefixtures("unchecked")
def test_what_a_file_does_not_hold_is_refused(saved, tmp_path):
    model, whole = saved
    path = tmp_path / "encoder.safetensors"
    vb.save(model, path, part="encoder")
    for part in ("decoder", None):
        message = rf"^part: expected 'encoder', all that .*encoder.safetensors holds, got {part!r}"
        with pytest.raises(ValueError, match=message):
            vb.load_model(path, part=part)
    wrong = r"^part: expected one of encoder, decoder, got 'generator'"
    for file in (whole, path):
        with pytest.raises(ValueError, match=wrong):
            vb.load_model(file, part="generator")
    with pytest.raises(ValueError, match=wrong):
        vb.save(model, tmp_path / "none", part="generator")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match=r"^checkpoint: expected a training state"):
        vb.fit(model, torch.rand(4, 3, 17, 20), epochs=1, checkpoint=path, resume=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_file_may_be_read_by_whoever_may_read_the_users_files(tmp_path):
    vb.save(vb.dense_vae((1, 4, 4), 2, hidden=(3,)), tmp_path / "model")
    (tmp_path / "other").write_text("as usual", "utf-8")
    modes = [(tmp_path / name).stat().st_mode for name in ("model", "other")]
    assert modes[0] == modes[1]
