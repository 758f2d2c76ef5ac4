"""The face detector and the face mesh against the published networks, and against the whole of MediaPipe."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from record_faces import network_inputs
from recorded import Recorded

from zoo.faces import detector, mesh


@pytest.fixture(scope="module")
def recorded(parity_file: Callable[[str], Path]) -> Recorded:
    return Recorded(parity_file("faces.npz"))


@pytest.fixture(scope="module")
def pictures(recorded: Recorded) -> dict[str, np.ndarray]:
    return {key[3:]: array for key, array in recorded.arrays.items() if key.startswith("in/")}


def as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


@torch.no_grad()
def test_the_networks_say_what_the_published_ones_say(recorded: Recorded, pictures: dict[str, np.ndarray]) -> None:
    assert len(pictures) >= 3
    for name, picture in pictures.items():
        small, large = map(as_batch, network_inputs(picture))
        logits, places = detector.network()(small)
        points, score = mesh.network()(large)
        torch.testing.assert_close(
            logits.flatten(), recorded.tensor(f"out/detector_score/{name}"), rtol=2e-4, atol=1e-3
        )
        # Boxes that nobody asks for lie thousands of pixels away.
        torch.testing.assert_close(places.flatten(), recorded.tensor(f"out/detector/{name}"), rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(points.flatten(), recorded.tensor(f"out/mesh/{name}"), rtol=0, atol=1e-3)
        torch.testing.assert_close(score, recorded.tensor(f"out/mesh_score/{name}"), rtol=0, atol=1e-3)


def test_from_picture_to_points_it_goes_as_in_mediapipe(recorded: Recorded, pictures: dict[str, np.ndarray]) -> None:
    """MediaPipe's pixels begin at their edge, and it resamples in other ways: what remains is below 1 % of a face."""
    for name, picture in pictures.items():
        found = mesh.find_points(as_batch(picture.astype(np.float32) / 127.5 - 1))
        assert found.scores[0] > 0.99
        assert int(found.counts[0]) == 1
        points, expected = found.points[0], recorded.tensor(f"out/points/{name}")
        expected[:, :2] -= 0.5
        face = (expected[:, 1].max() - expected[:, 1].min()).item()
        assert (points - expected).norm(dim=1).max() < 0.02 * face
        assert (points - expected).mean(0).abs().max() < 0.005 * face
