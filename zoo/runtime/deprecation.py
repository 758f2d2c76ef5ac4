"""Names that moved: they work until a stated version, with a warning that says where they went.

Modules that are gone come back through an import finder; names that left a module that still stands, through that
module's `__getattr__`. docs/UPGRADING.md shows both lists.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# The module that is gone: those that hold its names now; the first that knows a name gives it.
MODULES = {
    "zoo.cards": "zoo.weights.cards zoo.config.schemas",
    "zoo.data.heads": "zoo.heads.dataset",
    "zoo.data.priors": "zoo.priors",
    "zoo.editing.pose_probe": "zoo.probes.pose",
    "zoo.evaluation.figures": "zoo.output.figures",
    "zoo.evaluation.instance_comparison": "zoo.evaluation.benchmarks.instances",
    "zoo.evaluation.instance_runs": "zoo.fitting.runs",
    "zoo.evaluation.protocols": "zoo.evaluation.depth.protocol zoo.evaluation.benchmark",
    "zoo.export": "zoo.output.meshes zoo.output.sheets zoo.output.films",
    "zoo.files": "zoo.runtime.files",
    "zoo.importers": "zoo.official.importing",
    "zoo.importers.ffhq": "zoo.official.ffhq",
    "zoo.instances": "zoo.fitting.job",
    "zoo.memory": "zoo.runtime.memory",
    "zoo.pictures": "zoo.output.colours",
    "zoo.prior_files": "zoo.config.prior_files",
    "zoo.renderers.depthmap": "zoo.renderers.depthmaps.depthmap",
    "zoo.renderers.ellipsoid": "zoo.renderers.depthmaps.ellipsoid",
    "zoo.renderers.mesh": "zoo.renderers.meshes.render",
    "zoo.renderers.surface": "zoo.renderers.fields.surface",
    "zoo.renderers.volume": "zoo.renderers.fields.volume",
    "zoo.schemas": "zoo.config.schemas",
    "zoo.systems.checkpoint_io": "zoo.weights.checkpoints zoo.systems.checkpoints",
    "zoo.systems.instance": "zoo.fitting.steps",
    "zoo.systems.train": "zoo.systems.run",
}
# Where names were, where they are, which names.
NAMES = (
    ("zoo.config", "zoo.config.checks", "validate"),
    ("zoo.config", "zoo.config.fill", "generator_config to_dict"),
    ("zoo.config", "zoo.config.recipes", "load_run"),
    ("zoo.evaluation", "zoo.evaluation.comparison", "Comparison compare"),
    ("zoo.evaluation", "zoo.evaluation.benchmark", "Benchmark Row"),
    ("zoo.evaluation", "zoo.evaluation.report", "text_table write_report"),
    ("zoo.hub", "zoo.evaluation.scores", "evaluate"),
    ("zoo.hub", "zoo.systems.start", "finetune"),
    ("zoo.weights", "zoo.weights.files", "Stored read_weights write_weights"),
    ("zoo.weights", "zoo.weights.places", "newest"),
)
GONE = "0.3.0"  # the version in which both lists are deleted
_said: set[str] = set()


def deprecated(name: str, version: str, message: str, stacklevel: int = 1) -> None:
    """Warn, once per name, that `name` goes with `version` of zoo; `message` says what takes its place."""
    if name not in _said:
        _said.add(name)
        text = f"{name} is deprecated and goes with zoo {version}: {message}"
        warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)


def names_left(module: str) -> None:
    """Give a module that names have left a `__getattr__` that finds them; hidden from type checkers."""

    def find(name: str) -> object:
        for old, new, names in NAMES:
            if old == module and name in names.split():
                deprecated(f"{old}.{name}", GONE, f"use {new}.{name}", stacklevel=2)
                return getattr(importlib.import_module(new), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    vars(sys.modules[module])["__getattr__"] = find


class _Gone(ModuleType):
    """What stands for a module that is gone."""

    def __getattr__(self, name: str) -> object:
        if not name.startswith("__"):
            for place in map(importlib.import_module, MODULES[self.__name__].split()):
                if hasattr(place, name):
                    return getattr(place, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __call__(self, *args: object, **options: object) -> object:
        """`zoo.export` was a function, too: after an import of the module, `zoo.export(mesh, path)` goes on working."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **options)


class _Finder(MetaPathFinder, Loader):
    """Answers for modules that nothing else finds."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package = any(old.startswith(f"{name}.") for old in MODULES)
        return ModuleSpec(name, self, is_package=package) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Gone(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        places = MODULES[module.__name__].replace(" ", " or ")
        deprecated(module.__name__, GONE, f"use {places}", stacklevel=2)


def install() -> None:
    """Let imports of modules that are gone work; nothing heavy is imported before one is made."""
    sys.meta_path.append(_Finder())
