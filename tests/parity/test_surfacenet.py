"""ShadeGAN's surface-tracking network against its published code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from recorded import Comparison, Recorded, assert_covered, load_strict, run_part

from zoo.networks.surfacenet import SurfaceNet


def prediction(recorded: Recorded, c: Comparison) -> None:
    entries = recorded.meta("recipe")
    shapes = {key: shape for key, shape, *_ in entries}
    latent_dim, code_dim = shapes["linear.weight"]
    ups = sum(key.endswith("conv_sc.weight") for key in shapes)
    _, nf, *_ = list(shapes.values())[-1]  # the last convolution, (2, nf, 5, 5)
    net = SurfaceNet(code_dim, nf=nf, size=8 << ups, latent_dim=latent_dim)
    load_strict(net, recorded.recipe_state(entries, "check/"))

    pose = recorded.tensor("in/pose_scaled")
    code = np.sin(0.05 * np.arange(len(pose) * code_dim)).astype(np.float32).reshape(len(pose), code_dim)
    with torch.no_grad():
        c.check("pred", net(torch.from_numpy(code), pose), atol=1e-4)


def test_surfacenet(parity_file: Callable[[str], Path]) -> None:
    recorded = Recorded(parity_file("shadegan_surfacenet.npz"))
    run_part(recorded, "pred", prediction)
    assert_covered(recorded, ["pred"])
