"""SIDE, MAD and the mask rule against numbers recorded from the published code.

Another recording of the same kind is checked by putting it into a folder and naming the folder in ZOO_PARITY_DIR.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.metrics import MAD, SIDE, angle_per_image, erode, side_per_image

FOLDER = Path(os.environ.get("ZOO_PARITY_DIR", Path(__file__).parent / "fixtures"))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    path = FOLDER / "g2s_metrics_32.npz"
    if not path.is_file():
        pytest.fail(f"{path} is missing: put the recording there, or set ZOO_PARITY_DIR to its folder")
    with np.load(path, allow_pickle=False) as file:
        maps = {key: torch.from_numpy(file[key]) for key in file.files}
    for key, value in maps.items():
        if value.ndim == 3:
            maps[key] = value.unsqueeze(1)
        elif value.ndim == 4:
            maps[key] = value.permute(0, 3, 1, 2)
    return maps


def test_side_inside_a_mask(recorded: dict[str, Tensor]) -> None:
    got = side_per_image(recorded["in/depth_pred"], recorded["in/depth_gt"], recorded["in/mask"])
    torch.testing.assert_close(got, recorded["out/SIDE_masked"].double(), atol=1e-6, rtol=0)


def test_side_over_the_whole_image(recorded: dict[str, Tensor]) -> None:
    everywhere = torch.ones_like(recorded["in/mask"])
    got = side_per_image(recorded["in/depth_pred"], recorded["in/depth_gt"], everywhere)
    torch.testing.assert_close(got, recorded["out/SIDE_nomask"].double(), atol=1e-6, rtol=0)


def test_mad_in_degrees(recorded: dict[str, Tensor]) -> None:
    got = angle_per_image(recorded["in/normal_a"], recorded["in/normal_b"], recorded["in/mask"])
    # Float32 degrees around 57 were recorded to about 4e-6; the tolerance is 1e-6 of the value.
    torch.testing.assert_close(got, recorded["out/MAD_masked_deg"].double(), atol=0, rtol=1e-6)


def test_eroded_mask(recorded: dict[str, Tensor]) -> None:
    assert torch.equal(erode(recorded["in/mask_dense"]).float(), recorded["out/eroded_mask_dense"])


def test_classes_average_the_images(recorded: dict[str, Tensor]) -> None:
    side, mad = SIDE(), MAD()
    for i in range(len(recorded["in/mask"])):
        one = slice(i, i + 1)
        mask = recorded["in/mask"][one]
        side.update(recorded["in/depth_pred"][one], recorded["in/depth_gt"][one], mask)
        mad.update(recorded["in/normal_a"][one], recorded["in/normal_b"][one], mask)
    mean_side, mean_mad = (
        recorded["out/SIDE_masked"].double().mean(),
        recorded["out/MAD_masked_deg"].double().mean(),
    )
    torch.testing.assert_close(side.compute(), mean_side, atol=1e-6, rtol=0)
    torch.testing.assert_close(mad.compute(), mean_mad, atol=0, rtol=1e-6)
