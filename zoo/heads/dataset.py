"""The embedded `heads` data: rendered heads with exact depth, normals, albedo, light and camera for every image.

Item `i` is a pure function of (seed, split, i): counter-based random bits, sums in place of transcendental functions,
and a compiled renderer with a fixed order of operations give the same pixels on every machine.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .backgrounds import draw_backgrounds
from .looks import sample_looks
from .model import HeadModel
from .render import Rendering, render_heads
from .sampling import FOV, LIGHT_PRIOR, POSE_PRIOR, SPLITS, sample_heads, sample_lights, sample_poses
from .views import compress, plain_views, sample_views

__all__ = ["FOV", "LIGHT_PRIOR", "POSE_PRIOR", "HeadDataset", "Rendering", "render_heads"]

VERSION = 1  # version of the pictures; raise it whenever they change, so that older caches are not used
BACKGROUNDS = ("black", "random")
LENGTHS = {"train": 20_000, "val": 1_000, "test": 1_000, "sealed": 1_000}
WILD = {"background": "random", "highlights": True, "jitter": True}  # options of the condition "wild"


class HeadDataset(Dataset[dict[str, Tensor | int]]):
    """Seeded random heads.

    An item is a dict of float32 tensors: image (3, S, S), depth (1, S, S), normal (3, S, S), albedo (3, S, S) and mask
    (1, S, S) as in `Rendering`; pose (2,) = (pitch, yaw) in radians; light (4,) = (a, d, dx, dy); view (4,) = (fov,
    scale, shift x, shift y) as in `zoo.heads.views`. It also has the ints identity and index.

    The light is fixed to the head: image = albedo * (0.5 + a / 2 + (0.5 + d / 2) * max(0, n . L)), where L is
    (dx, dy, 1), normalised. The camera stands on the unit sphere and looks at the origin, with a field of view of 12
    degrees and the pixel rule "corner".

    Args:
        split: "train", "val", "test" or "sealed", which share no identity. "sealed" with seed 0 is for results that are
            published: nothing is trained, chosen or tested on it.
        size: Pixels per side, 32..256.
        length: Number of images; None gives 20,000 for "train" and 1,000 for the others.
        seed: Makes heads, poses and lights; 0 or more.
        views: Images of each identity, which follow one another.
        background: "black", or "random" for the procedural pictures of `zoo.heads.backgrounds`.
        highlights: Whether the light is more than the formula above says, see `zoo.heads.looks`.
        jitter: Whether the view is drawn, see `zoo.heads.views`, and the image compressed as JPEG. Then its last bits
            may depend on the version of the codec.

    Raises:
        ValueError: An argument is unknown or out of range.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        length: int | None = None,
        seed: int = 0,
        views: int = 1,
        background: str = "black",
        highlights: bool = False,
        jitter: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"HeadDataset: split={split!r} does not exist; use one of {', '.join(SPLITS)}")
        if not 32 <= size <= 256:
            raise ValueError(f"HeadDataset: size={size} is out of range; use 32 to 256")
        if (length is not None and length < 1) or views < 1 or seed < 0:
            raise ValueError(
                f"HeadDataset: length={length}, views={views}, seed={seed}; use 1 or more, and a seed of 0 or more"
            )
        if background not in BACKGROUNDS:
            known = ", ".join(BACKGROUNDS)
            raise ValueError(f"HeadDataset: background={background!r} does not exist; use one of {known}")
        self.split, self.size, self.seed, self.views, self.background = split, size, seed, views, background
        self.highlights, self.jitter = highlights, jitter
        self.length = LENGTHS[split] if length is None else length
        self.fov, self.pixel_centres = FOV, "corner"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        index = int(index)
        if not -self.length <= index < self.length:
            raise IndexError(f"HeadDataset: index {index} is outside 0..{self.length - 1}")
        item = self.batch([index % self.length])
        return {key: int(value[0]) if value.dtype == torch.int64 else value[0] for key, value in item.items()}

    def batch(self, indices: list[int] | Tensor) -> dict[str, Tensor]:
        """Stack the items of `indices`, rendered in parallel; identity and index become (B,) int64.

        Raises:
            IndexError: An index is outside the data set.
        """
        index = np.asarray(indices, np.int64).reshape(-1)
        if len(index) and not (index.min() >= 0 and index.max() < self.length):
            raise IndexError(f"HeadDataset: indices {index.min()}..{index.max()} are outside 0..{self.length - 1}")
        identity = index // self.views
        heads = sample_heads(identity, self.seed, self.split, HeadModel.load())
        poses = sample_poses(index, self.seed, self.split)
        lights = sample_lights(index, self.seed, self.split)
        views, qualities = sample_views(index, self.seed, self.split, self.size)
        if not self.jitter:
            views = plain_views(len(index))
        looks = sample_looks(index, self.seed, self.split) if self.highlights else None
        rendered = render_heads(heads, poses, lights, self.size, views=views, looks=looks)
        if self.background == "random":
            behind = 2 * draw_backgrounds(index, self.seed, self.split, self.size)
            rendered.image[:] += (1 - rendered.coverage) * behind  # the image is -1 where there is no head
        if self.jitter:
            rendered.image[:] = compress(rendered.image, qualities)
        item = {name: torch.from_numpy(value) for name, value in rendered._asdict().items() if name != "coverage"}
        item["pose"] = torch.from_numpy(poses.astype(np.float32))
        item["light"] = torch.from_numpy(lights.astype(np.float32))
        item["view"] = torch.from_numpy(views.astype(np.float32))
        item["identity"] = torch.from_numpy(identity + SPLITS[self.split] * 1_000_000_000)
        item["index"] = torch.from_numpy(index)
        return item
