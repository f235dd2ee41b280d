"""What a file may name: builders and likelihoods, those that come along and those of one's own."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import vaebook as vb
from vaebook.models.registry import BUILDERS, LIKELIHOODS

IMAGES = torch.linspace(0, 1, 80).view(5, 1, 4, 4)
# What a user's module holds, which a fresh process may have or not.
OWN = """
import torch
from torch import nn

import vaebook as vb


@vb.register
class Laplace(nn.Module):
    def log_prob(self, params, x):
        return -2 * (x - params).abs().flatten(1).sum(1)

    def mean(self, params):
        return params.clamp(0, 1)


@vb.register
class Student(nn.Module):
    name = "student"

    def __init__(self, freedom, scale=0.5):
        super().__init__()
        self.freedom, self.scale = freedom, nn.Parameter(torch.tensor(scale))

    @property
    def spec(self):
        return [self.name, {"freedom": self.freedom}]

    def log_prob(self, params, x):
        student = torch.distributions.StudentT(self.freedom, params, self.scale)
        return student.log_prob(x).flatten(1).sum(1)

    def mean(self, params):
        return params.clamp(0, 1)


@vb.register
def linear_vae(image_shape, latent_dim, *, likelihood=("student", {"freedom": 3}), **options):
    return vb.dense_vae(image_shape, latent_dim, hidden=(), likelihood=likelihood, **options)
"""
LOAD = """
import json
import sys

import torch
import vaebook as vb

found = []
for path in sys.argv[1:]:
    try:
        model = vb.load_model(path)
    except ValueError as error:
        found.append(str(error))
        continue
    x = torch.linspace(0, 1, 80).view(5, 1, 4, 4)
    params = model.decode(model.encode(x)[0])
    found.append([model.config, model.likelihood.log_prob(params, x).tolist()])
print(json.dumps(found))
"""


@pytest.fixture
def own():
    """What a user's module defines, registered."""
    names = {"__name__": "own"}
    exec(OWN, names)
    return names


def in_a_fresh_process(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_ones_own_is_built_saved_and_loaded_where_it_is_registered(own, tmp_path):
    torch.manual_seed(0)
    models = [
        own["linear_vae"]((1, 4, 4), 2, activation="tanh"),
        vb.dense_vae((1, 4, 4), 2, hidden=(3,), likelihood="Laplace"),
        vb.dense_vae((1, 4, 4), 2, hidden=(3,), likelihood=own["Student"](4, scale=0.7)),
    ]
    assert models[0].config == {
        "builder": "linear_vae", "image_shape": [1, 4, 4], "latent_dim": 2,
        "likelihood": ["student", {"freedom": 3}], "activation": "tanh",
    }  # fmt: skip
    assert models[1].config["likelihood"] == "Laplace"
    assert models[2].config["likelihood"] == ["student", {"freedom": 4}]
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    expected = []
    for model, path in zip(models, paths, strict=True):
        vb.fit(model, IMAGES, epochs=1, batch_size=3, progress=False, device="cpu")
        vb.save(model, path)
        with torch.no_grad():
            params = model.decode(model.encode(IMAGES)[0])
            expected.append([model.config, model.likelihood.log_prob(params, IMAGES).tolist()])
    assert in_a_fresh_process(OWN + LOAD, *paths) == expected
    names = "linear_vae", "Laplace", "student"
    for error, named, path in zip(in_a_fresh_process(LOAD, *paths), names, paths, strict=True):
        argument = "builder" if named == "linear_vae" else "likelihood"
        assert error.startswith(f"{argument}: expected one of ")
        assert error.endswith(f", got {named!r} (in {path})")
        assert "\n" not in error


class Unknown(nn.Module):
    def log_prob(self, params, x):
        return -(x - params).square().flatten(1).sum(1)

    def mean(self, params):
        return params


class Sharper(vb.likelihoods.Bernoulli):
    """A likelihood that has the spec of its parent, of which it is none."""

    def log_prob(self, params, x):
        return super().log_prob(2 * params, x)


class Heavier(vb.likelihoods.Gaussian):
    def log_prob(self, params, x):
        return 2 * super().log_prob(params, x)


@pytest.mark.parametrize("kind", [Unknown, Sharper, Heavier])
def test_a_likelihood_that_is_not_registered_can_be_trained_and_saving_says_what_to_do(
    kind, tmp_path
):
    model = vb.dense_vae((1, 4, 4), 2, hidden=(3,), likelihood=kind())
    history = vb.fit(model, IMAGES, epochs=1, batch_size=3, progress=False, device="cpu")
    assert np.isfinite(history.last("train")["loss"])
    with pytest.raises(ValueError, match=rf"^model: .*register its likelihood, {kind.__name__}"):
        vb.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    vb.register(kind)
    again = vb.dense_vae((1, 4, 4), 2, hidden=(3,), likelihood=kind())
    vb.save(again, tmp_path / "model")
    assert type(vb.load_model(tmp_path / "model").likelihood) is kind
    assert (
        type(vb.dense_vae((1, 4, 4), 2, likelihood="bernoulli").likelihood).__name__ == "Bernoulli"
    )
    assert type(vb.dense_vae((1, 4, 4), 2, likelihood="gaussian").likelihood).__name__ == "Gaussian"


def test_a_builder_of_ones_own_may_choose_a_likelihood_that_no_file_knows(tmp_path):
    @vb.register
    def mine(image_shape, latent_dim):
        return vb.dense_vae(image_shape, latent_dim, hidden=(3,), likelihood=Unknown())

    model = mine((1, 4, 4), 2)
    vb.save(model, tmp_path / "model")
    loaded = vb.load_model(tmp_path / "model")
    assert type(loaded.likelihood) is Unknown
    assert (
        loaded.config == model.config == dict(builder="mine", image_shape=[1, 4, 4], latent_dim=2)
    )


def several(*sizes, image_shape=(1, 4, 4)):
    return vb.dense_vae(image_shape, 2, hidden=sizes)


def unnamed(image_shape, latent_dim, /):
    return vb.dense_vae(image_shape, latent_dim)


class WithArguments(Unknown):
    def __init__(self, width=1.0):
        super().__init__()


class OfAParent(Sharper):
    def __init__(self, *, width=1.0):
        super().__init__()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("thing", [several, unnamed, WithArguments, OfAParent, "conv_vae", None, 3])
def test_what_no_file_could_tell_is_not_registered(thing):
    before = dict(BUILDERS), dict(LIKELIHOODS)
    with pytest.raises(ValueError, match=r"^thing: expected a [^\n]*, got [^\n]*$"):
        vb.register(thing)
    assert before == (BUILDERS, LIKELIHOODS)


# Of every builder, with NumPy's numbers, lists and arrays for what is written as ints and tuples.
N, F = np.int64, np.float64
PLAIN = {
    "conv_vae": lambda: vb.conv_vae(
        np.array([1, 16, 16]), N(2), width=np.uint8(40), residual=np.int32(1),
        likelihood=["gaussian", {"sigma": F(0.3)}],
    ),
    "dense_vae": lambda: vb.dense_vae(
        [N(1), 8, 8], N(2), hidden=[N(5), 4],
        likelihood=("discretized_logistic", {"scale": np.float32(0.5), "levels": N(9)}),
    ),
    "layered_vae": lambda: vb.layered_vae(
        [1, 8, 8], N(2),
        encoder=[
            {"kind": "conv", "channels": N(2), "stride": N(2), "padding": [N(1), N(1)]},
            {"kind": "pool", "size": N(2)}, {"kind": "residual"}, {"kind": "dense", "size": N(5)},
        ],
        decoder=(
            {"kind": "dense", "size": N(32)}, {"kind": "reshape", "shape": (N(2), N(4), N(4))},
            {"kind": "transposed_conv", "channels": N(1), "stride": N(2), "padding": N(1)},
        ),
        likelihood=vb.likelihoods.Gaussian(F(0.2)),
    ),
    "ladder_vae": lambda: vb.ladder_vae([1, 8, 8], [N(3), 2], hidden=np.array([6, 5])),
    "vq_vae": lambda: vb.vq_vae(
        np.array([1, 8, 8]), [N(2), N(2)], np.int16(5), dim=N(3), width=N(4), residual=N(1),
        commitment=F(0.5),
    ),
    "conditional_vae": lambda: vb.conditional_vae(
        [1, 8, 8], N(2), classes=N(3), hidden=[N(5)], likelihood=["gaussian", {"sigma": F(2)}]
    ),
}  # fmt: skip


def kinds_in(value):
    if isinstance(value, dict | list):
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return {type(value)}.union(*map(kinds_in, inside))
    return {type(value)}


def test_no_builder_is_left_out():
    assert {name for name in BUILDERS if BUILDERS[name].__module__.startswith("vaebook")} == {
        *PLAIN
    }


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", PLAIN)
def test_numbers_and_lists_of_numpy_end_as_plain_json(name, tmp_path):
    model = PLAIN[name]()
    assert model.config["builder"] == name
    assert json.loads(json.dumps(model.config)) == model.config
    assert kinds_in(model.config) <= {dict, list, str, int, float, bool}
    vb.save(model, tmp_path / "model")
    loaded = vb.load_model(tmp_path / "model")
    assert loaded.config == model.config
    assert repr(loaded) == repr(model)
    assert type(model.latent_dim) is int
    one = loaded.given(range(1))
    images = torch.rand(3, *model.image_shape)
    assert one.sample(3).shape == one.reconstruct(images).shape == images.shape


# Small enough to be built where they fit, or too large for any memory.
NUMBERS = st.integers(-3, 40) | st.sampled_from([2**40, 2**63, 10**30]) | st.floats()
WORDS = st.sampled_from(["dense_vae", "tanh", "kind", "dense", "size", "builder", "gaussian"])
TEXT = st.text(max_size=9) | WORDS
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXT, inside, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "dense_vae": ["builder", "image_shape", "latent_dim", "hidden", "activation", "likelihood"],
    "conv_vae": ["builder", "image_shape", "latent_dim", "width", "residual", "likelihood"],
    "ladder_vae": ["image_shape", "latent_dims", "hidden", "activation"],
    "conditional_vae": ["builder", "latent_dim", "classes", "hidden"],
    "layered_vae": ["builder", "latent_dim", "encoder", "decoder"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a small model of every kind."""
    folder = tmp_path_factory.mktemp("files")
    up = [{"kind": "dense", "size": 16}, {"kind": "reshape", "shape": [1, 4, 4]}]
    for model in (
        vb.dense_vae((1, 4, 4), 2, hidden=(3,)),
        vb.conv_vae((1, 16, 16), 2, width=1),
        vb.ladder_vae((1, 4, 4), (2, 1), hidden=(3, 2)),
        vb.conditional_vae((1, 4, 4), 2, classes=3, hidden=(3,)),
        vb.layered_vae((1, 4, 4), 2, encoder=up[:1], decoder=up),
    ):
        vb.save(model, folder / model.config["builder"])
    return folder


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["vaebook"])


def meet(path, header):
    """Load the file under another header; return what a ValueError says, if there is one."""
    other = path.with_suffix(".other")
    save_file(load_file(path), other, {"vaebook": json.dumps(header)})
    try:
        assert isinstance(vb.load_model(other), vb.VAE)
    except ValueError as error:
        said = str(error)
    else:
        return None
    assert 0 < len(said) < 1000
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.usefixtures("unchecked")
@given(st.dictionaries(st.sampled_from(["config", "format", "version", "part"]), JSON, min_size=1))
def test_a_file_with_an_odd_header_says_so_in_a_sentence(files, changes):
    meet(files / "dense_vae", header_of(files / "dense_vae") | changes)


@pytest.mark.usefixtures("unchecked")
@given(st.data())
def test_a_file_with_an_odd_configuration_says_so_in_a_sentence(files, data):
    path = files / data.draw(st.sampled_from([*FIELDS]))
    keys = st.sampled_from([*FIELDS[path.name], "depth"])
    changes = data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=2))
    header = header_of(path)
    meet(path, header | {"config": header["config"] | changes})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("header", "named"),
    [
        (None, "holds tensors, but no vaebook model"),
        ([], "holds tensors, but no vaebook model"),
        ({}, "holds tensors, but no vaebook model"),
        ("config", "holds tensors, but no vaebook model"),
        ({"config": {}}, "format"),
        ({"config": 3, "format": 1}, "config: expected a builder's name and arguments, got 3"),
        ({"config": [], "format": 1}, "config: expected a builder's name and arguments, got []"),
        ({"config": {}, "format": 1}, "builder: expected one of "),
        ({"config": {"builder": ["dense_vae"]}, "format": 1}, "builder: expected one of "),
        ({"config": {"builder": "dense_vae"}, "format": 1}, "config: expected arguments of dense_"),
        ({"config": {}, "format": "1"}, "format"),
        ({"config": {}, "format": [1]}, "format"),
        ({"config": {}, "format": None}, "format"),
        ({"config": {}, "format": True}, "format"),
        ({"config": {}, "format": 0}, "format"),
        ({"config": {}, "format": 2, "version": {"a": "\n"}}, "was written by vaebook"),
        ({"config": {}, "format": 2, "version": "9\n9"}, "was written by vaebook"),
        ({"config": {}, "format": 1, "part": {"encoder": 1}}, "part: "),
        ({"config": {}, "format": 1, "part": "body"}, "part: "),
    ],
)  # fmt: skip
def test_headers_that_were_once_odd(files, header, named):
    said = meet(files / "dense_vae", header)
    assert said is not None
    assert named in said


def test_no_builder_of_ones_own_takes_the_name_of_one_that_comes_along():
    before = BUILDERS["dense_vae"]

    def dense_vae(image_shape, latent_dim):
        return vb.conv_vae(image_shape, latent_dim)

    for builder in (dense_vae, lambda image_shape: vb.dense_vae(image_shape, 2)):
        with pytest.raises(ValueError, match=r"^thing: expected a builder with a name of its own"):
            vb.register(builder)
    assert BUILDERS["dense_vae"] is before


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [10**13, 10**18, 10**30])
@pytest.mark.parametrize("builder", [vb.dense_vae, vb.conv_vae])
def test_a_model_for_which_there_is_no_memory_is_refused_in_a_sentence(builder, size):
    told = rf"^{builder.__name__}: expected sizes for which there is memory, got [^\n]+$"
    with pytest.raises(ValueError, match=told):
        builder((1, 28, 28), size)
