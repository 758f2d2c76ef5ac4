"""SeFa and GANSpace against NumPy, the choice of a line, how far heads are moved along it, the pose probe."""

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.editing.directions import LAYERS, Turn, find_turn, ganspace, passing, rotate, sefa
from zoo.errors import ZooError
from zoo.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from zoo.heads.dataset import HeadDataset
from zoo.probes.pose import PoseProbe, train_pose_probe


@pytest.fixture
def gan() -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(StyleGAN2Config(z_dim=8, size=16, mapping_layers=2, channel_max=8)).eval()


def test_sefa_is_what_numpy_finds(gan: StyleGAN2) -> None:
    network = gan.network
    stack = np.concatenate(
        [conv.conv.modulation.weight.detach().numpy() for conv in (network.conv1, network.convs[0], network.convs[1])]
    ).astype(np.float64)
    stack /= np.linalg.norm(stack, axis=1, keepdims=True)
    values, vectors = np.linalg.eig(stack.T @ stack)
    expected = vectors[:, np.argsort(-values)].T
    found = sefa(gan, layers=3).numpy()
    np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-5)
    assert np.abs(sefa(gan, layers=1).numpy()[0] @ found[0]) < 0.999  # other layers, other directions


def test_ganspace_is_a_principal_component_analysis(gan: StyleGAN2) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codes = gan.mapping(torch.randn(10_000, 8)).double().numpy()
    _, values, axes = np.linalg.svd(codes - codes.mean(0), full_matrices=False)
    found = ganspace(gan).numpy()
    assert (values[:3] / values[1:4] > 1.01).all()  # else the axes are not determined
    np.testing.assert_allclose(np.abs((found[:3] * axes[:3]).sum(1)), 1, atol=1e-3)


def planted(gan: StyleGAN2, monkeypatch: pytest.MonkeyPatch, line: Tensor) -> None:
    """Let pictures be grey values that rise along `line` with the code of the last layer that may move."""
    monkeypatch.setattr(
        gan, "synthesise", lambda w: (w[:, LAYERS - 1] @ line).tanh().view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    )


def grey(images: Tensor) -> Tensor:
    return torch.stack([torch.zeros(len(images)), images.mean((1, 2, 3))], 1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_line_that_turns_most_is_found_with_its_sense(
    gan: StyleGAN2, monkeypatch: pytest.MonkeyPatch, sign: float
) -> None:
    line = torch.zeros(8)
    line[3], line[5] = 0.3 * sign, 0.05
    planted(gan, monkeypatch, line)
    turn = find_turn(gan, torch.eye(8), grey)
    assert turn.step.abs().argmax() == 3
    assert torch.sign(turn.step[3]) == sign
    with torch.no_grad():
        deviation = gan.mapping(gan.latents(4096, 0).z)[:, 3].std()
    torch.testing.assert_close(turn.step.norm(), deviation)
    assert 0 < turn.slope < 0.3 * deviation


def test_heads_are_moved_to_the_yaws_that_are_wanted(gan: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    line = torch.zeros(8)
    line[3] = 0.5
    planted(gan, monkeypatch, line)
    turn = find_turn(gan, torch.eye(8), grey)
    pictures = rotate(gan, gan.latents(5, seed=3), [-0.3, 0.0, 0.3], turn, grey)
    assert pictures.shape == (5, 3, 3, 16, 16)
    measured = grey(pictures.flatten(0, 1))[:, 1].view(5, 3)
    torch.testing.assert_close(measured, torch.tensor([-0.3, 0.0, 0.3]).expand(5, 3), atol=0.02, rtol=0)
    far = grey(rotate(gan, gan.latents(5, seed=3), [2.0], turn, grey)[:, 0])[:, 1]
    assert (far < 1).all()  # as far as the line goes
    assert (far > measured[:, 2]).all()


def test_only_the_first_layers_move(gan: StyleGAN2) -> None:
    w = torch.zeros(2, gan.code_layers, 8)
    moved = Turn(torch.arange(8.0), 0.1, layers=2).moved(w, torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(moved[:, 0], torch.stack([torch.arange(8.0), -2 * torch.arange(8.0)]))
    assert moved[:, 2:].abs().max() == w.abs().max() == 0


def test_a_network_that_does_not_turn_is_refused(gan: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(gan, monkeypatch, torch.zeros(8))
    with pytest.raises(ZooError, match="no direction turns its pictures"):
        find_turn(gan, torch.eye(8), grey)


def test_passing_is_the_closest_crossing() -> None:
    torch.manual_seed(0)
    steps, curves = torch.linspace(-3, 3, 13), torch.randn(200, 13)
    curves[:20] = curves[:20].abs() + 0.1  # these never cross
    for found, curve in zip(passing(steps, curves).tolist(), curves.tolist(), strict=True):
        places = []
        for i in range(12):
            a, b = curve[i], curve[i + 1]
            if (a <= 0) != (b <= 0):
                places.append(steps[i].item() + (steps[i + 1] - steps[i]).item() * a / (a - b))
        nearest = steps[min(range(13), key=lambda i: abs(curve[i]))].item()
        assert found == pytest.approx(min(places, key=abs) if places else nearest, abs=1e-5)


def test_the_probe_reads_poses_and_mirrors_them() -> None:
    probe = train_pose_probe(n=300, steps=90)
    heads = HeadDataset("test", size=64, length=100).batch(list(range(100)))
    read = probe(heads["image"])
    error = (read - heads["pose"]).square().mean(0).sqrt()
    assert error[1] < 0.3 * heads["pose"][:, 1].std()
    torch.testing.assert_close(probe(heads["image"].flip(-1)), read * torch.tensor([1.0, -1.0]), atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in probe.parameters())


def test_training_a_probe_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = train_pose_probe(n=40, steps=2)
    with torch.no_grad():  # as the benchmark of identity asks for it
        second = train_pose_probe(n=40, steps=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(first(image), second(image))
    assert not torch.equal(first(image), PoseProbe().eval()(image))
