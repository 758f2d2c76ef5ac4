"""What several sections of a run must agree on. What one section may hold stands beside its fields, see `bounds`."""

from operator import attrgetter

from .. import registry
from .bounds import need
from .fill import to_dict
from .schemas import AdversarialConfig, InstanceConfig, PhotometricConfig, RunConfig, SceneConfig

_UNUSED = (  # by fits to photographs
    "trainer.loggers", "trainer.patience", "trainer.precision", "trainer.max_kimg", "trainer.checkpoint_kimg",
    "trainer.sample_kimg", "trainer.log_every", "trainer.compile", "system.ema_kimg", "system.start_kimg",
    "system.hollow_patience",
)  # fmt: skip


def validate(run: RunConfig, heads: SceneConfig) -> None:
    """Refuse sections that do not fit each other.

    Args:
        run: Filled from recipe and overrides.
        heads: The scene that the embedded heads are rendered in.

    Raises:
        ConfigError: Names the key, its value and what to write.
    """
    if method := run.generator.get("name"):
        kind = registry.resolve(method)
        need(run.system.name == kind.system, "system", run.system.name, f"{method} trains with system={kind.system}")
        length = getattr(run.system, "path_length", 0)
        fix = f"pictures of {method} have no second derivatives, which this takes; use 0"
        need(length == 0 or kind.second_derivatives, "system.path_length", length, fix)
    if isinstance(run.system, InstanceConfig):
        for name in ("devices", "nodes", "accumulate"):
            fix = "a fit to photographs, a joint one too, is one process on one device; use 1"
            need((value := getattr(run.trainer, name)) == 1, f"trainer.{name}", value, fix)
        plain = RunConfig(system=type(run.system)())
        for key in _UNUSED:
            value = attrgetter(key)(run)
            need(value == attrgetter(key)(plain), key, value, "a fit to photographs does not use it; leave it out")
        return
    if isinstance(run.system, AdversarialConfig) and run.system.path_length > 0:
        fix = "compiled code has no second derivatives, which system.path_length takes; use never"
        need(run.trainer.compile != "always", "trainer.compile", run.trainer.compile, fix)
    if isinstance(run.system, AdversarialConfig) and run.system.real_pose == "measured":
        fix = "poses are measured where faces are aligned; add data.align=celeba"
        need(run.data.align != "none", "system.real_pose", run.system.real_pose, fix)
    own = run.generator.get("size")
    for i, stage in enumerate(run.system.stages):
        key = f"system.stages[{i}].size"
        fix = f"a stage larger than data.size={run.data.size} trains on upsampled images; raise data.size"
        need(stage.size <= run.data.size, key, stage.size, fix)
        if isinstance(run.system, PhotometricConfig):
            need(stage.size == own, key, stage.size, f"the networks take generator.size={own}; make them equal")
        elif isinstance(own, int):
            fix = f"the generator makes pictures of generator.size={own}; make the stage as small or raise that"
            need(stage.size <= own, key, stage.size, fix)
    if run.data.name == "heads":
        scene, drawn = to_dict(run.data.scene), to_dict(heads)
        fix = "the embedded heads are rendered with their own cameras and lights; leave data.scene as it is"
        for name in scene:
            need(scene[name] == drawn[name], f"data.scene.{name}", getattr(run.data.scene, name), fix)
