"""The smallest sizes that still do all that a method does, for tests of several files."""

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)

# A radiance field (pigan, shadegan, gof), as options of `zoo.build`.
TINY = {"z_dim": 8, "hidden_dim": 16, "layers": 2, "mapping_dim": 16, "steps": 6, "fine_steps": 0}

# GAN2Shape's networks, as overrides of a run.
TINY_GAN2SHAPE = [
    "generator.size=32", "generator.nf=4", "generator.zdim=4", "generator.groups=2", "generator.encoder_nf=2",
    "generator.offset_nf=2", "generator.offset_dim=8", "generator.mapping_tail=1", "trainer.accelerator=cpu",
    "system.batch=2",
]  # fmt: skip


def overrides(part: str, options: dict[str, int]) -> list[str]:
    """Options of `zoo.build` as overrides of a run."""
    return [f"{part}.{name}={value}" for name, value in options.items()]


def in_float64(module: Module) -> Module:
    """A network for finite differences: generators refuse `double()`, as their renderers take float32."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.double()
    return module
