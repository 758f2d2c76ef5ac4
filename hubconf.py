"""Entry points of torch.hub, one for each method: `torch.hub.load("/a/checkout", "shadegan", source="local")`."""

from collections.abc import Callable as _Callable
from typing import Any as _Any

import zoo

dependencies = ["torch", "numpy", "omegaconf", "safetensors", "yaml"]


def _entry(name: str) -> _Callable[..., _Any]:
    def load(tag: str = "", **options: _Any) -> _Any:
        return zoo.load(f"{name}.{tag}" if tag else name, **options)

    load.__name__, load.__doc__ = (
        name,
        (
            f"Load {name} with trained weights: `tag` names them (`heads64`), by default the method's own. "
            "Options are those of `zoo.load`: device, pretrained=False for random weights, fields of the Config."
        ),
    )
    return load


globals().update({name: _entry(name) for name in zoo.list(pretrained=False)})
