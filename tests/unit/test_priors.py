import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.cli import data as cli_data
from zoo.config import recipes
from zoo.config.fill import to_dict
from zoo.config.schemas import LightConfig, PoseConfig
from zoo.data.fit_prior import fit_prior
from zoo.errors import ConfigError, DataError
from zoo.priors import DISTRIBUTIONS, LightPrior, PosePrior, light_prior, pose_prior

N = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(distribution: str, **values: float) -> torch.Tensor:
    return PosePrior(distribution, **values).sample(N, generator())


def chi_square(samples: torch.Tensor, cdf, bins: int = 20) -> float:
    """Statistic of `bins` classes that are equally likely under `cdf`; about `bins` - 1 if it is true."""
    counts = torch.bincount((cdf(samples) * bins).long().clamp(0, bins - 1), minlength=bins)
    return float(((counts - N / bins) ** 2 / (N / bins)).sum())


LIMIT = 43.8  # 0.1 % of chi-square with 19 degrees of freedom


def normal_cdf(x: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(x)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_shape_seed_and_order(distribution: str) -> None:
    prior = PosePrior(distribution)
    pose = prior.sample(5, generator())
    assert pose.shape == (5, 2)
    assert pose.dtype == torch.float32
    assert torch.equal(pose, prior.sample(5, generator()))


def test_gaussian() -> None:
    pose = draws("gaussian", yaw_mean=0.1)
    assert chi_square(pose[:, 0] / 0.155, normal_cdf) < LIMIT
    assert chi_square((pose[:, 1] - 0.1) / 0.3, normal_cdf) < LIMIT
    assert abs(torch.corrcoef(pose.T)[0, 1]) < 0.03


def test_uniform() -> None:
    pose = draws("uniform", yaw_std=0.5, pitch_std=0.4)
    assert pose.abs().amax(0)[0] <= 0.4
    assert pose.abs().amax(0)[1] <= 0.5
    assert chi_square(pose[:, 1], lambda x: x + 0.5) < LIMIT


def test_truncated_gaussian() -> None:
    yaw = draws("truncated_gaussian")[:, 1] / 0.3
    inside = yaw.abs() < 2
    assert inside.float().mean() > 0.9999  # four tries fail together about once in 200,000
    low = normal_cdf(torch.tensor(-2.0))
    assert chi_square(yaw, lambda x: ((normal_cdf(x) - low) / (1 - 2 * low)).clamp(0, 0.999)) < LIMIT


def test_hybrid_tosses_one_coin_a_call() -> None:
    prior = PosePrior("hybrid", yaw_std=0.3)
    g = generator()
    calls = [prior.sample(2000, g)[:, 1] for _ in range(40)]
    flat = [bool(call.abs().max() <= 0.6) for call in calls]  # uniform of twice the width never leaves +-0.6
    assert 10 < sum(flat) < 30


def test_spherical_uniform_is_uniform_on_the_sphere() -> None:
    quarter = math.pi / 4 * 85 / 90  # CARLA in pi-GAN: the upper half, down to 85 degrees from the pole
    pose = draws("spherical_uniform", yaw_std=math.pi, pitch_mean=quarter - math.pi / 2, pitch_std=quarter)
    cosine = torch.cos(pose[:, 0] + math.pi / 2)
    lowest = 1 - 2 * (2 * quarter / math.pi)
    assert pose[:, 0].max() <= 0.06  # the camera stays above the ground: pitch > 0 would be below
    assert chi_square((cosine - lowest) / (1 - lowest), lambda x: x) < LIMIT
    assert chi_square(pose[:, 1], lambda x: (x + math.pi) / (2 * math.pi)) < LIMIT


def test_fixed() -> None:
    assert torch.equal(PosePrior("fixed", yaw_mean=0.2).sample(3, generator()), torch.tensor([[0, 0.2]] * 3))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_yaws_reach_as_far_as_is_said(distribution: str) -> None:
    prior = PosePrior(distribution, yaw_mean=0.1, yaw_std=0.5)
    away = (prior.sample(N, generator())[:, 1] - 0.1).abs()
    assert (away > prior.yaw_reach + 1e-6).float().mean() < 0.05
    assert away.quantile(0.99) > 0.9 * prior.yaw_reach - 1e-6
    assert PosePrior(distribution, yaw_std=9.0).yaw_reach <= math.pi


def test_pose_config() -> None:
    assert pose_prior(PoseConfig(yaw_std=0.5)) == PosePrior(yaw_std=0.5)
    with pytest.raises(ConfigError, match="Did you mean 'gaussian'"):
        pose_prior(PoseConfig("gausian"))
    with pytest.raises(ConfigError, match=r"pose\.yaw_std=-1"):
        PosePrior(yaw_std=-1.0)


def test_light_sample_and_fit() -> None:
    root = torch.tensor([[0.1, 0, 0, 0], [0.05, 0.1, 0, 0], [0, 0.2, 0.3, 0], [0, 0, 0, 0]])
    prior = LightPrior(torch.tensor([0.1, -0.1, 0.0, 0.3]), root @ root.T)
    lights = prior.sample(N, generator())
    fitted = LightPrior.fit(lights)
    assert torch.allclose(fitted.mean, prior.mean, atol=0.01)
    assert torch.allclose(fitted.cov, prior.cov, atol=0.01)
    assert torch.allclose(lights[:, 3], torch.tensor(0.3), atol=1e-3)  # no variance there
    assert torch.equal(prior.sample(7, generator()), prior.sample(7, generator()))


def test_light_files(tmp_path: Path) -> None:
    prior = light_prior(LightConfig())
    for name in ("light.json", "light.npz"):
        loaded = LightPrior.load(prior.save(tmp_path / name))
        assert torch.equal(loaded.mean, prior.mean)
        assert torch.equal(loaded.cov, prior.cov)
    torch.save({"mean": prior.mean.double(), "cov": prior.cov}, tmp_path / "mvn.pth")
    assert torch.equal(LightPrior.load(tmp_path / "mvn.pth").cov, prior.cov)


class Hostile:
    def __reduce__(self):
        return (print, ("code ran",))


def test_light_files_gone_wrong(tmp_path: Path, capsys) -> None:
    torch.save({"mean": Hostile(), "cov": Hostile()}, tmp_path / "hostile.pth")
    np.savez(tmp_path / "hostile.npz", mean=np.array([Hostile()]), cov=np.array([Hostile()]))
    (tmp_path / "no_cov.json").write_text(json.dumps({"mean": [0, 0, 0, 0]}))
    (tmp_path / "text.json").write_text("not json")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "light.csv").write_text("")
    capsys.readouterr()
    for name in (
        "hostile.pth",
        "hostile.npz",
        "no_cov.json",
        "text.json",
        "list.json",
        "light.csv",
        "gone.npz",
    ):
        with pytest.raises(DataError, match=name.replace(".", r"\.")) as caught:
            LightPrior.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out
    with pytest.raises(DataError, match=r"is a \.json, \.npz or \.pth file"):
        LightPrior.load(tmp_path / "light.safetensors")
    with pytest.raises(DataError, match=r"\.json or \.npz"):
        light_prior(LightConfig()).save(tmp_path / "light.pth")


def test_light_must_be_a_covariance() -> None:
    for mean, cov, message in [
        (torch.zeros(3), torch.eye(4), r"\(4,\) and \(4, 4\)"),
        (torch.zeros(4), -torch.eye(4), "negative eigenvalues"),
        (torch.zeros(4), torch.eye(4) + torch.eye(4).roll(1, 0), "symmetric"),
        (torch.full((4,), math.nan), torch.eye(4), "finite"),
    ]:
        with pytest.raises(ConfigError, match=message):
            LightPrior(mean, cov)
    with pytest.raises(ConfigError, match="lights must be"):
        LightPrior.fit(torch.zeros(1, 4))
    with pytest.raises(ConfigError, match="light"):
        light_prior(LightConfig(cov=[[1.0], [1.0, 2.0]]))


def test_fitted_files_stand_in_for_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lights = light_prior(LightConfig()).sample(500, generator()).numpy()
    poses = draws("gaussian", yaw_mean=0.1)[:500].numpy()
    np.savetxt(tmp_path / "lights.csv", lights, delimiter=",", header="a,d,dx,dy")
    np.save(tmp_path / "poses.npy", poses)
    for samples, out in (("lights.csv", "light.json"), ("lights.csv", "light.npz"), ("poses.npy", "pose.json")):
        cli_data.fit_prior(tmp_path / samples, tmp_path / out)
    assert "data.scene.pose=" in capsys.readouterr().out

    given = [f"data.scene.{kind}={tmp_path / kind}.json" for kind in ("light", "pose")]
    run = recipes.load_run("shadegan", ["data=folder", "data.root=faces", *given])
    fitted = LightPrior.fit(torch.from_numpy(lights))
    assert torch.allclose(light_prior(run.data.scene.light).cov, fitted.cov, atol=1e-6)
    assert run.data.scene.pose.yaw_mean == pytest.approx(poses[:, 1].mean(), abs=1e-6)
    assert run.data.scene.pose.pitch_std == pytest.approx(poses[:, 0].std(ddof=1), abs=1e-6)
    assert str(tmp_path) not in str(run)  # a run and its weights carry the numbers
    assert run.generator["scene"] == to_dict(run.data.scene)
    of_npz = recipes.load_run("shadegan", ["data=folder", "data.root=faces", f"data.scene.light={tmp_path}/light.npz"])
    assert of_npz.data.scene.light == run.data.scene.light


def test_single_numbers_go_over_those_of_a_file_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "pose.json").write_text('{"yaw_std": 0.2, "pitch_std": 0.1}')
    (tmp_path / "light.json").write_text(json.dumps({"mean": [0.4] * 4, "cov": np.eye(4).tolist()}))
    pose, light = (f"data.scene.{kind}={tmp_path / kind}.json" for kind in ("pose", "light"))
    given = [pose, light, "data.scene.pose.yaw_std=0.4", "data.scene.light.mean=[0, 0, 0, 0]"]
    for order in (given, given[::-1]):
        scene = recipes.load_run("shadegan", ["data=folder", *order]).data.scene
        assert (scene.pose.yaw_std, scene.pose.pitch_std) == (0.4, 0.1)
        assert (scene.light.mean, scene.light.cov) == ([0.0] * 4, np.eye(4).tolist())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.csv", None, "cannot be read"),
        ("a.txt", "", r"\.csv or \.npy"),
        ("a.csv", "1,2,3\n4,5,6", r"shape \(2, 3\); a light is a row of 4"),
        ("a.csv", "a,d,dx,dy\n1,2,3,4", "starts with #"),
        ("a.csv", "1,2\n3,nan", "row 2 is not finite"),
        ("a.npy", "not numpy", "not a table"),
        ("a.csv", "1,2,3,4", "N >= 2"),
    ],
)
def test_tables_that_cannot_be_fitted(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((DataError, ConfigError), match=message):
        fit_prior(tmp_path / name, tmp_path / "prior.json")
    assert not (tmp_path / "prior.json").exists()


def test_prior_files_that_do_not_fit_name_the_key_or_the_file(tmp_path: Path) -> None:
    (tmp_path / "pose.json").write_text('{"yaw": 0.3}')
    (tmp_path / "list.json").write_text("[1]")
    for setting, message in (
        (f"data.scene.pose={tmp_path / 'pose.json'}", r"data\.scene\.pose\.yaw"),
        (f"data.scene.pose={tmp_path / 'list.json'}", "not a pose prior, which is a mapping"),
        (f"data.scene.light={tmp_path / 'list.json'}", "not a light prior"),
        ("data.scene.light=gone.json", "gone.json: cannot be read"),
        ("data.scene.pose=gone.json", "gone.json: cannot be read"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            recipes.load_run("shadegan", ["data=folder", "data.root=faces", setting])


def test_published_light_priors_are_converted(tmp_path: Path) -> None:
    torch.save({"mean": torch.tensor([0.1, 0.2, 0.3, 0.4]), "cov": torch.eye(4)}, tmp_path / "official.pth")
    fit_prior(tmp_path / "official.pth", tmp_path / "light.json")
    setting = f"data.scene.light={tmp_path / 'light.json'}"
    light = recipes.load_run("shadegan", ["data=folder", "data.root=faces", setting]).data.scene.light
    assert light.mean == pytest.approx([0.1, 0.2, 0.3, 0.4])
