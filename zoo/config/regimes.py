"""Training regimes: one name for the settings and for the class that trains by them."""

from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, unknown
from ..registry import imported
from .schemas import AdversarialConfig, InstanceConfig, PhotometricConfig, SystemConfig


@dataclass(frozen=True)
class Regime:
    """How a method learns.

    Attributes:
        schema: The settings, `system` of a run.
        system: "module:Class" of what trains by them; imported when a run starts, as it needs torch.
    """

    schema: type[SystemConfig]
    system: str

    def load(self) -> type[Any]:
        """The class that trains."""
        return imported(self.system)


# The module of a method from another package may add a line: it is imported before a regime is looked up.
REGIMES = {
    "adversarial": Regime(AdversarialConfig, "zoo.systems.adversarial:AdversarialSystem"),
    "photometric": Regime(PhotometricConfig, "zoo.systems.photometric:PhotometricSystem"),
    "instance": Regime(InstanceConfig, "zoo.fitting.steps:InstanceSystem"),
}


def regime(name: str) -> Regime:
    """A regime by its name.

    Raises:
        ConfigError: Unknown; the message offers the nearest name.
    """
    if name not in REGIMES:
        raise ConfigError(unknown("system", name, REGIMES))
    return REGIMES[name]
