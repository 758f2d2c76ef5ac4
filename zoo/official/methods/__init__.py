"""The table of methods whose published files can be imported: one file each, and those of plug-ins."""

from ...errors import ConfigError, unknown
from ...resources import plugins
from . import gan2shape, gof, graf, pigan, shadegan, stylegan2, unsup3d
from .base import Method

METHODS = {
    "pigan": pigan.METHOD,
    "shadegan": shadegan.METHOD,
    "gof": gof.METHOD,
    "graf": graf.METHOD,
    "unsup3d": unsup3d.METHOD,
    "gan2shape": gan2shape.METHOD,
    "stylegan2": stylegan2.METHOD,
}


def method(name: str) -> Method:
    """What is known of a method's published files; a plug-in says it in the entry-point group `zoo.official`.

    Raises:
        ConfigError: Nothing is known; the message offers the nearest name.
    """
    others = plugins()["zoo.official"]
    if name not in METHODS and name in others:
        found: Method = others[name].load()
        return found
    if name not in METHODS:
        raise ConfigError(unknown("official method", name, [*METHODS, *others]))
    return METHODS[name]
