"""Networks from a configuration: with random weights, or for weights that are read into them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..config import recipes
from ..config.fill import generator_config, merge, without_name
from ..errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode

    from ..generators.base import Generator
    from .files import Stored


def build(name_or_config: "str | Mapping[str, Any]", *, seed: int = 0, **overrides: Any) -> "Generator":
    """A new network with random weights, in training mode on the CPU. The same seed gives the same weights.

    Args:
        name_or_config: Method, recipe, path of a recipe's YAML file, or a mapping with `name` and fields of its Config.
        seed: Seed of the weights; the global random state is left as it was.
        overrides: Fields of the method's Config, e.g. `hidden_dim=64`; mappings are merged.

    Raises:
        ConfigError: Unknown name or field, or a wrong type.
    """
    import torch

    from ..runtime import draws

    values = _values(name_or_config) if isinstance(name_or_config, str) else name_or_config
    with torch.inference_mode(False), draws.seeded(seed):  # weights are there to be trained, whoever makes them
        model = construct(values, overrides)
        model.initialise()
    return model


def construct(values: "Mapping[str, Any]", overrides: "Mapping[str, Any]") -> "Generator":
    name = str(values.get("name", ""))
    model: Generator = registry.resolve(name)(generator_config(name, merge(without_name(values), overrides)))
    model.name = name
    return model


def construct_for(stored: "Stored", overrides: "Mapping[str, Any]", where: str) -> "Generator":
    """A network that stored weights fit, compared with them before memory is set aside for what their config claims.

    Those that are shipped are trusted, as torch takes seconds to get ready for the comparison.

    Raises:
        ConfigError: Unknown name or field, or a wrong type.
        WeightsError: Weights that do not fit, or are not finite.
    """
    import torch

    from .files import check_fit

    if Path(where) not in registry.weight_folders().values():
        with torch.device("meta"), _unfilled():
            check_fit(construct(stored.config, overrides), stored.tensors, where)
    with torch.random.fork_rng(devices=[]):
        return construct(stored.config, overrides)


def _unfilled() -> "TorchFunctionMode":
    """Leaves out random numbers of new weights: on the meta device torch imports its compiler for them."""
    from torch.overrides import TorchFunctionMode

    class Unfilled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            if name.endswith(("normal_", "uniform_")):  # of tensors, and of torch.nn.init
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    return Unfilled()


def _values(name: str) -> dict[str, Any]:
    if name in registry.names() and name not in recipes.group("generator"):
        return {"name": name}  # a plug-in need not bring defaults
    return recipes.load_run(name).generator


def device_of(name: str) -> "torch.device":
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # unknown to torch; known, but not here; torch built without it
        raise ConfigError(f"device {name!r} is not on this machine; use cpu, or auto to take what there is") from None
