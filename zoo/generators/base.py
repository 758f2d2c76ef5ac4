"""What every generator promises, whatever it is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from ..config.schemas import SceneConfig
from ..errors import ConfigError
from ..geometry import Batch, Camera, Light, Render
from ..priors import light_prior, pose_prior
from ..runtime.workers import outside_autocast

if TYPE_CHECKING:
    from pytorch3d.structures import Meshes

    from ..config.schemas import Card
    from ..networks.perceptual import PerceptualLoss


@dataclass(frozen=True, repr=False, eq=False)
class Latents(Batch):
    """Codes of B objects.

    Attributes:
        z: (B, z_dim) holds standard normal draws.
        psi: Truncates: 1 leaves the objects as they are, 0 makes each the average object.
        code: Holds the network's own inner codes if they were optimised or edited; then `z` and `psi` are not used.
    """

    _one = "latent"
    z: Tensor
    psi: float = 1.0
    code: Tensor | None = None

    def __repr__(self) -> str:
        source = f"psi {self.psi:g}" if self.code is None else f"code {tuple(self.code.shape[1:])}"
        return f"Latents({self._count()}, {source}, {self.z.device})"

    @staticmethod
    def cat(parts: "Sequence[Latents]") -> "Latents":
        """Several batches of codes as one.

        Raises:
            ValueError: Some have inner codes and others have none, or they are truncated differently.
        """
        codes = [p.code for p in parts if p.code is not None]
        if len(codes) not in (0, len(parts)) or (not codes and len({p.psi for p in parts}) > 1):
            raise ValueError(
                "latents with inner codes and without, or of different psi, are not one batch: give all of them their "
                "codes, Latents(z=part.z, code=generator.code(part))"
            )
        return replace(parts[0], z=torch.cat([p.z for p in parts]), code=torch.cat(codes) if codes else None)


@runtime_checkable
class DepthPredictor(Protocol):
    """A method that predicts the depth of photographs itself, so that no probe needs to be trained for it."""

    def predict_depth(self, images: Tensor) -> Tensor:
        """Predict depth (N, 1, H, H), on the CPU, in the view of each photograph (N, 3, H, H) in [-1, 1]."""
        ...


class Explanation(NamedTuple):
    """What a method reads off B photographs: the objects, the cameras that took them, and their light."""

    latents: Latents
    camera: Camera
    light: Light | None


@runtime_checkable
class Explainer(Protocol):
    """A method with an encoder: it reads objects off photographs, so that no search is needed."""

    def explain(self, images: Tensor, size: int) -> Explanation:
        """Read objects off square photographs (B, 3, H, H) in [-1, 1]; the cameras take pictures of `size` pixels."""
        ...


@runtime_checkable
class SelfTaught(Explainer, Protocol):
    """A method that learns without an opponent: it rebuilds photographs, and the result is compared with them."""

    def training_state(self) -> dict[str, Tensor]:
        """The named tensors that training carries from step to step, with their first values.

        They are stored in checkpoints, not with the weights.
        """
        ...

    def training_loss(
        self, images: Tensor, kimg: float, state: dict[str, Tensor], perceptual: "PerceptualLoss | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar that training minimises, and its named terms before they are weighted.

        Args:
            images: (B, 3, S, S) in [-1, 1], of the size that the method takes.
            kimg: Says where its schedules stand, in thousands of images.
            state: Holds the tensors of `training_state`; they are changed in place.
            perceptual: Compares image features, if the run has such a loss.
        """
        ...


class Generator(nn.Module):
    """Latents, camera and light in; a `Render` out. Sub-classes are plain modules: no trainer, no hidden step counter.

    A sub-class has a dataclass `Config` with every architecture number, `z_dim` and a `scene` among them, and
    implements `tiny`, `forward`, `mesh` and `schedule`. Its renders have at least `rgb`, `depth` and `mask`. A method
    that makes pictures only (`is_3d` is False) renders `rgb` alone and has no mesh. Where `uses_camera` is False, only
    the image size of a camera counts.
    """

    Config: ClassVar[type]
    mapping: nn.Module  # maps z to the code that `forward` uses
    system: ClassVar[str] = "adversarial"  # the training regime, named as in configs/system/
    is_3d: ClassVar[bool] = True
    uses_camera: ClassVar[bool] = True
    uses_light: bool = False
    interpolates: ClassVar[bool] = True  # what lies between two codes is an object, too
    second_derivatives: ClassVar[bool] = True  # of pictures by codes: `system.path_length` takes them
    mesh_settings: ClassVar[tuple[str, ...]] = ("resolution", "level")  # what changes a mesh
    hollow_advice: ClassVar[str] = ""  # a setting that keeps faces from being pressed inwards
    code_layers: int = 0  # the number of layers with a part of the code of their own, see `split_code`
    shape_layers: int = 0  # so many of these, the first ones, say the shape; the others only colour it
    card: "Card | None" = None
    loaded: str = ""  # the state that the card speaks of, see `zoo.hub.load`
    name: str = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.scene: SceneConfig = config.scene
        self._average: tuple[int, Tensor] | None = None

    @classmethod
    def tiny(cls) -> Any:
        """A Config with few parameters, for tests."""
        raise NotImplementedError

    def __call__(self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Any = None) -> Render:
        """Render every object from its camera under its light, in float32: it runs outside autocast.

        One camera or light serves all objects; one object is shown from all cameras, or under all lights.

        Args:
            latents: Are the objects.
            camera: Says where they are seen from.
            light: Shines on them; None is the mean light of the training data. Methods without light ignore it.
            sampling: None stands for the method's deterministic inference settings; training passes `schedule(kimg)`.

        Raises:
            ValueError: The numbers of objects, cameras and lights do not match.
        """
        n = len(latents)
        if n == 1:
            n = len(camera) if len(camera) > 1 or light is None else len(light)
        if n > len(latents):
            latents = replace(latents, code=self.code(latents)).expand(n)  # one code: the views are of one object
        batches = latents, camera.expand(n), None if light is None else light.expand(n)
        given = [None if batch is None else batch.to(next(self.parameters()).dtype) for batch in batches]
        with outside_autocast(self.device):
            out: Render = super().__call__(*given, sampling)
        return out

    def forward(self, latents: Latents, camera: Camera, light: Light | None = None, sampling: Any = None) -> Render:
        """Render each object from its own camera, under its own light; `__call__` has matched their numbers."""
        raise NotImplementedError

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        size = f"{count / 1e6:.1f} M" if count >= 50_000 else f"{count:,}"
        name = f"{self.name}, " if self.name else ""
        return f"{type(self).__name__}({name}{size} parameters, {self.device})"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # All of `to`, `half`, `double` and `type` come through here.
        if (dtype := fn(torch.empty(0, dtype=torch.float32)).dtype) != torch.float32:
            raise ConfigError(
                f"{type(self).__name__} cannot be {dtype}: cameras, renderers and PyTorch3D take float32; keep it so"
            )
        out: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return out

    @property
    def title(self) -> str:
        """What people are told of: its name, or that of its class if it has none."""
        return self.name or type(self).__name__

    def mesh(self, latents: Latents, resolution: int = 128, level: float | None = None) -> "Meshes":
        """Coloured meshes in the world frame: Y up, faces counter-clockwise seen from outside, colours in [0, 1].

        Args:
            latents: Are the B objects.
            resolution: Sets how fine the mesh is, in cells.
            level: Is the density at the surface, for methods that have one; None is the method's own.

        Raises:
            ConfigError: The method makes pictures only.
        """
        self.need_3d("mesh")
        raise NotImplementedError

    def need_3d(self, what: str) -> None:
        """Refuse to do what needs a shape, if the method makes pictures only.

        Args:
            what: Names what was asked for, e.g. "mesh".

        Raises:
            ConfigError: The method makes pictures only.
        """
        if not self.is_3d:
            raise ConfigError(f"{type(self).__name__} makes pictures, without shape: it has no {what}")

    def need_camera(self, what: str) -> None:
        """Refuse to do what needs a camera, if no camera turns the method's pictures.

        Args:
            what: Names what was asked for, e.g. "yaw and pitch".

        Raises:
            ConfigError: The method ignores its camera.
        """
        if not self.uses_camera:
            raise ConfigError(f"{type(self).__name__} makes pictures, without a camera: it has no {what}")

    def need_layers(self) -> None:
        """Refuse to do what needs a code for each layer.

        Raises:
            ConfigError: The method feeds one code to all its layers.
        """
        if not self.code_layers:
            fix = "so styles cannot be mixed; use interpolate"
            raise ConfigError(f"{self.title} has no code of its own for each layer, {fix}")

    def initialise(self) -> None:
        """Prepare a fresh network for training, beyond its random weights. Loaded weights are left as they are."""

    def taken_from(self, other: "Generator") -> dict[str, Tensor]:
        """The weights of another generator as this one can start from them."""
        return other.state_dict()

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part, as `system.freeze` names them: the mapping network, the background, and the rest."""
        network = getattr(self, "mapping", None)  # a method may work without one
        mapping = [] if network is None else list(network.parameters())
        behind = [p for key, p in self.named_parameters() if "background" in key.partition(".")[0]]
        taken = {id(p) for p in [*mapping, *behind]}
        rest = [p for p in self.parameters() if id(p) not in taken]
        found = {"mapping": mapping, "background": behind, "synthesis": rest}
        return {name: part for name, part in found.items() if part}

    def need_batch(self, n: int) -> None:
        """Refuse batches that are too small to learn from.

        Args:
            n: Is the number of images in a batch.

        Raises:
            ConfigError: The method cannot learn from so few.
        """

    def compile_field(self) -> None:
        """Compile the part that training spends its time in, if the method has one."""

    def schedule(self, kimg: float) -> Any:
        """How training samples after `kimg` thousand images: a pure function of progress."""
        raise NotImplementedError

    def rate_scale(self, sampling: Any) -> float:
        """Factor on the generator's learning rate in a training step with this `sampling`."""
        return 1.0

    def at_rest(self, kimg: float) -> dict[str, Any]:
        """Fields of the Config that weights of this time of training are saved and shown with, in place of its own."""
        return {}

    def search_sampling(self) -> Any:
        """Deterministic sampling for searches, if it can be cheaper than that of final pictures; else None."""
        return None

    def keeping_albedo(self, own: Light | None = None, sampling: Any = None) -> Any:
        """Sampling for objects under a light that is not their `own` (None is the mean light): albedo stays as it is.

        Methods whose albedo knows no light take sampling as it is.
        """
        return sampling

    def real_view(self, images: Tensor, sampling: Any) -> Tensor:
        """Show real images (B, 3, S, S) as `forward` shows generated ones under this `sampling`: whole, or in part."""
        return images

    def regularisers(self, render: Render) -> dict[str, Tensor]:
        """Named scalar losses of the method itself, added to the adversarial loss during training."""
        return {}

    def monitors(self, render: Render) -> dict[str, float | Tensor]:
        """Named numbers about a training batch that are worth plotting; scalars of the device are not read here."""
        return {}

    def own_maps(self, latents: Latents) -> dict[str, Tensor]:
        """Named pictures (B, 3, R, R) in [-1, 1] that the method makes on its way to an image, such as a texture."""
        return {}

    def code(self, latents: Latents) -> Tensor:
        """The network's own inner codes (B, ...), truncated towards their average by psi."""
        latents = latents.to(self.device)
        if latents.code is not None:
            return latents.code
        raw: Tensor = self.mapping(latents.z)
        if latents.psi == 1:
            return raw
        average = self.average_code()
        return average + latents.psi * (raw - average)

    def split_code(self, code: Tensor) -> Tensor:
        """Split codes into (B, L, ...), one part for each of the L = `code_layers` layers.

        Raises:
            ConfigError: The method feeds one code to all its layers.
        """
        self.need_layers()
        return code if code.ndim == 3 else code[:, None].expand(-1, self.code_layers, -1)

    def join_code(self, parts: Tensor) -> Tensor:
        """Join the layers' parts (B, L, ...) to codes again: the inverse of `split_code`."""
        return parts

    def average_code(self) -> Tensor:
        """The mean code (1, ...) of 10,000 fixed latents; it is kept until the mapping network changes."""
        # Weights that were made in inference mode count no changes.
        version = sum(0 if p.is_inference() else p._version for p in self.mapping.parameters())
        if self._average is None or self._average[0] != version or self._average[1].device != self.device:
            with torch.inference_mode(False), torch.no_grad():  # it may be needed with gradients later
                z = torch.randn(10_000, self.config.z_dim, generator=torch.Generator().manual_seed(0))
                self._average = (version, self.mapping(z.to(self.device)).mean(0, keepdim=True))
        return self._average[1]

    @property
    def picture_size(self) -> int | None:
        """Side in pixels of the images that the networks themselves make or take; None if any side will do."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def latents(self, n: int, seed: int | torch.Generator = 0, psi: float = 1.0) -> Latents:
        """Draw `n` codes. The same seed gives the same codes on every device, and code i does not depend on `n`.

        Raises:
            ValueError: `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        z = torch.stack([torch.randn(self.config.z_dim, generator=source, device=source.device) for _ in range(n)])
        return Latents(z.to(self.device), psi)

    def cameras(self, n: int, seed: int | torch.Generator = 0, size: int = 64) -> Camera:
        """Draw `n` cameras from the pose distribution of the training data."""
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        pose = pose_prior(self.scene.pose).sample(n, source)
        return self.camera_at(pose, size)

    def camera(self, yaw: float | Tensor = 0.0, pitch: float | Tensor = 0.0, size: int = 64) -> Camera:
        """Cameras at given angles, in radians, in the scene that this generator was trained for."""
        camera = Camera.orbit(yaw, pitch, fov=self.scene.fov, size=size, radius=self.scene.radius)
        return camera.to(self.device)

    def camera_at(self, pose: Tensor, size: int = 64) -> Camera:
        """Cameras at poses (B, 2), pitch and yaw in radians, in the scene that this generator was trained for."""
        return Camera.at(pose, fov=self.scene.fov, size=size, radius=self.scene.radius).to(self.device)

    @property
    def mean_light(self) -> Light:
        """The mean light of the training data, on the network's device."""
        # Filled there: to copy numbers to a GPU is to wait for it.
        numbers = [torch.full((1,), value, dtype=torch.float32, device=self.device) for value in self.scene.light.mean]
        return Light(torch.stack(numbers, 1))

    def lights(self, n: int, seed: int | torch.Generator = 0) -> Light:
        """Draw `n` lights from the prior of the training data."""
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        return Light(light_prior(self.scene.light).sample(n, source).to(self.device))


class PictureGAN(Generator):
    """A 2D GAN that others can learn from: z becomes a style w (B, z_dim), and w becomes a picture.

    The code is w, or one w for each layer, (B, code_layers, z_dim). A sub-class implements `synthesise` and
    `style_weights` and sets `code_layers`. Camera and light are accepted, so that methods can be swapped; of the
    camera only the image size counts.
    """

    is_3d = False
    uses_camera = False

    def synthesise(self, w: Tensor) -> Tensor:
        """Draw pictures (B, 3, size, size) in [-1, 1] of w (B, z_dim) or (B, code_layers, z_dim), without chance."""
        raise NotImplementedError

    def style_weights(self, layers: int) -> Tensor:
        """The weights (K, z_dim) through which w enters the first `layers` convolutions, one row for each channel."""
        raise NotImplementedError

    @property
    def picture_size(self) -> int:
        size: int = self.config.size
        return size
