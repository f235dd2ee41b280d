"""The one table of what a file may name: builders of models, and likelihoods."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

from vaebook.checks import choose, wrong

BUILDERS: dict[str, Callable[..., Any]] = {}
LIKELIHOODS: dict[str, Callable[..., Any]] = {}
Thing = TypeVar("Thing", bound=Callable[..., Any])


def register(thing: Thing) -> Thing:
    """Make a builder of models, or a class of likelihoods, known to files by its name.

    As the `thing`, a builder is a function that returns a `VAE`. The one that is returned, to be
    used as a decorator has it, notes in `VAE.config` how it was called: `save` writes that, and
    `load_model` calls it again, which must have been registered by then. Its arguments have names,
    and are what JSON can hold and a ``likelihood``. A class of likelihoods with arguments needs a
    ``spec``, its name and a dict of them. Raises a ValueError for what does not fit.

    >>> import vaebook as vb
    >>> @vb.register
    ... def small_vae(image_shape, latent_dim, hidden=10):
    ...     return vb.dense_vae(image_shape, latent_dim, hidden=(hidden,))
    >>> small_vae((1, 8, 8), 2).config
    {'builder': 'small_vae', 'image_shape': [1, 8, 8], 'latent_dim': 2, 'hidden': 10}
    """
    entry: Any = thing
    name = getattr(thing, "__name__", None)
    if not callable(thing) or name is None:
        raise wrong("thing", "a function that builds models or a class of likelihoods", repr(thing))
    kinds = {argument.kind.name for argument in signature(thing).parameters.values()}
    if isinstance(thing, type):
        name = vars(thing).get("name", name)
        bare = isinstance(getattr(thing, "spec", name), str)  # without a spec, or with a parent's
        if bare and not kinds <= {"VAR_POSITIONAL", "VAR_KEYWORD"}:  # those of a plain nn.Module
            raise wrong("thing", "a class without arguments, or with a `spec` of them", name)
        entry.name, entry.spec = name, name if bare else entry.spec
        LIKELIHOODS[name] = entry
        return entry
    ours = getattr(BUILDERS.get(name), "__module__", "").startswith("vaebook.")
    if name == "<lambda>" or (ours and not thing.__module__.startswith("vaebook.")):
        raise wrong("thing", "a builder with a name of its own", name)
    if kinds & {"POSITIONAL_ONLY", "VAR_POSITIONAL"}:
        raise wrong("thing", "a builder whose arguments all have names", name)

    @wraps(thing)
    def builder(*args: Any, **kwargs: Any) -> Any:
        try:
            model = thing(*args, **kwargs)
        except (RuntimeError, TypeError) as error:
            if not re.search("allocate|overflow|out of memory", str(error), re.IGNORECASE):
                raise
            reason = str(error).partition("\n")[0]
            raise wrong(name, "sizes for which there is memory", reason) from error
        call = signature(thing).bind(*args, **kwargs)
        call.apply_defaults()
        names = call.signature.parameters
        config: Any = {"builder": name, **dict(zip(names, call.args, strict=False)), **call.kwargs}
        if "likelihood" in config:
            known = type(model.likelihood) in LIKELIHOODS.values()
            config = config | {"likelihood": model.likelihood.spec} if known else None
        model.config = plain(config)  # None where no file could name the likelihood
        return model

    BUILDERS[name] = builder
    return builder  # type: ignore[return-value]


def plain(value: Any) -> Any:
    """Return what JSON makes of a value, also of NumPy's numbers and arrays."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


def build(config: Any) -> Any:
    """Build the model that a `VAE.config` describes; a ValueError says what does not fit."""
    if not isinstance(config, dict):
        raise wrong("config", "a builder's name and arguments", f"{config!r:.80}")
    # JSON has made lists of the tuples.
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    builder = choose("builder", arguments.pop("builder", None), BUILDERS)
    try:
        return builder(**arguments)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise wrong("config", f"arguments of {config['builder']}", reason) from None
