"""What GAN2Shape starts from: photographs, their latents in the GAN, foregrounds and initial shapes."""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ..config.schemas import InstanceConfig
from ..data.pictures import Picture, decode
from ..data.store import open_files, read_file, topmost
from ..data.synface import SynfaceDataset
from ..data.transforms import load_image, to_float
from ..editing.photo import frame_points, framing_of, read_photo
from ..errors import ConfigError, DataError
from ..generators.base import Latents, PictureGAN
from ..generators.gan2shape import GAN2Shape
from ..heads.dataset import HeadDataset
from ..losses import photometric_loss
from ..networks.feature_loss import DiscriminatorLoss
from ..renderers.depthmaps.ellipsoid import ellipsoid_depth
from ..resources import user_path
from ..runtime.files import printable
from .subject import Subject

log = logging.getLogger(__name__)

SHAPES = ("ellipsoid", "flat", "asymmetric")
MASKS = ("ellipse", "alpha", "all")
_SPLITS = {"heads": "test", "sealed": "sealed", "val": "val"}  # of the embedded heads, by the word that asks for them
_OURS = (*_SPLITS, "bfm", "seed")  # words before a colon, where the path of a picture would stand


@dataclass
class Photograph:
    """One picture of a source, before it is inverted.

    Attributes:
        name: Stands in files and messages.
        image: (1,3,H,H) in [-1,1] has the side H of the GAN's pictures.
        known: (1,1,H,H) is 0 where the GAN's frame is wider than the picture; None if it nowhere is.
        w: Is its latent, if the GAN drew it.
        alpha: (1,1,H,H) is the picture's opacity: its mask file, or its alpha channel, if it has one.
        depth: (1,1,S,S) is the true depth at the side of the networks, if it is known.
        inside: (1,1,S,S) says where there is true depth, if it is known.
    """

    name: str
    image: Tensor
    known: Tensor | None = None
    w: Tensor | None = None
    alpha: Tensor | None = None
    depth: Tensor | None = None
    inside: Tensor | None = None


def gan_for(source: str) -> str:
    """The shipped 2D GAN that draws what a source shows: heads like the embedded ones, or people on photographs."""
    return "stylegan2.heads64" if source.partition(":")[0] in _OURS else "stylegan2.photos64"


def photographs(
    source: str,
    gan: PictureGAN,
    size: int,
    *,
    align: bool | None = False,
    psi: float = 0.7,
    root: str | None = None,
    whole: bool = False,
    mask: str = "ellipse",
    part: slice = slice(None),
) -> list[Photograph]:
    """Read the pictures of a source.

    Args:
        source: Names a picture, a folder of them, "heads:0-3" (images of the embedded test split, with true depth;
            "sealed:0-3" and "val:0-3" are those of the splits of `--benchmark inversions`),
            "bfm:0-3" (images of the test split in a folder in the layout of synface, with true depth), or "seed:0-3"
            (the GAN's own pictures).
        gan: Says in which framing and size they are wanted.
        size: Is the side of the networks' images, which is that of the true depth.
        align: Finds the face and cuts it as the GAN's training images were cut; else the middle square is taken. None
            finds it if the GAN's card names a data set whose framing is known.
        psi: Truncates the GAN's own pictures.
        root: Is the folder or zip of "bfm:0-3".
        whole: Says that the GAN draws the whole pictures of "bfm:0-3"; else what the benchmark cuts out of them.
        mask: As in the settings: a word of `MASKS`, a mask file, or a folder of masks that are named like the pictures.
            Files are read here, and cut as their pictures are.
        part: Picks some of the pictures by their places; the others are not read.

    Raises:
        ConfigError: There is no such source, or no such mask.
        DataError: A picture or a mask cannot be used, a folder has none, or a mask is missing.
    """
    kind, _, numbers = source.partition(":")
    if kind in _OURS:
        chosen = _numbers(source, numbers)[part]
        if not chosen:
            return []
        if kind == "seed":
            out = _drawn(chosen, gan, psi)
        else:
            out = _bfm(chosen, gan, size, root, whole) if kind == "bfm" else _heads(kind, chosen, gan, size)
        if mask not in MASKS:
            for one in out:
                own = _mask_file(mask, one.name)
                one.alpha = read_photo(own, gan, align=False, mask=own).cut(None, gan.config.size)[2]
        return out
    path = user_path(source, ConfigError)
    if not path.exists():
        raise ConfigError(f"{source}: no such picture or folder; or write heads:0-3, bfm:0-3 or seed:0-3")
    side = gan.config.size
    if framing_of(gan) == "heads":
        fix = "for photographs leave out --gan, or give --gan ffhq (after zoo import ffhq)"
        log.warning("%s draws the embedded heads, and a person comes back as one of those: %s", gan.name, fix)
    align = framing_of(gan) is not None if align is None else align
    front = frame_points(gan, torch.zeros(1, 2, device=gan.device), side).cpu() if align else None
    out = []
    for name, picture in _pictures(path, part=part):
        photo = read_photo(picture, gan, align=align)
        for note in photo.notes:
            log.warning("%s: %s", name, note)
        image, known, alpha = photo.cut(front, side)
        if mask not in MASKS:
            own = _mask_file(mask, name, picture.size)
            alpha = read_photo(picture, gan, align=align, mask=own).cut(front, side)[2]
        out.append(Photograph(name, image, known, alpha=alpha))
    return out


def _pictures(
    path: Path, only: str | None = None, *, colour: bool = True, part: slice = slice(None)
) -> Iterator[tuple[str, Picture]]:
    """The picture at a path, or those on the topmost level of a folder or zip, with the names of their results.

    `only` picks one of them by name, and `part` some by their places.

    Raises:
        DataError: Two pictures have one name, or a picture cannot be read.
    """
    if not path.is_dir() and path.suffix.lower() != ".zip":
        for only_one in [path][part]:
            yield printable(path.stem), decode(read_file(only_one), printable(path), colour=colour)
        return
    files = open_files(path)
    named = [(printable(PurePosixPath(file).stem), file) for file in topmost(files)]
    chosen = [(name, file) for name, file in named if only in (None, name)]
    if len({name for name, _ in chosen}) < len(chosen):
        raise DataError(f"{printable(path)}: two pictures of one name, which differ only in their endings; rename one")
    for name, file in chosen[part]:
        yield name, decode(files.read(file), files.where(file), colour=colour)


def _numbers(source: str, text: str) -> list[int]:
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise ConfigError(f"{source}: write one number or a range, e.g. heads:0-3")
    return list(range(first, last + 1))


def _heads(kind: str, numbers: list[int], gan: PictureGAN, size: int) -> list[Photograph]:
    split = _SPLITS[kind]
    large, small = HeadDataset(split, size=gan.config.size), HeadDataset(split, size=size)
    if numbers[-1] >= len(large):
        raise ConfigError(f"{kind}:{numbers[-1]} does not exist; the {split} split has 0 to {len(large) - 1}")
    seen, true = large.batch(numbers), small.batch(numbers)
    parts = zip(numbers, *(x.split(1) for x in (seen["image"], true["depth"], true["mask"])), strict=True)
    word = "head" if kind == "heads" else kind
    return [Photograph(f"{word}{i:04d}", image, depth=depth, inside=mask > 0.5) for i, image, depth, mask in parts]


def _bfm(numbers: list[int], gan: PictureGAN, size: int, root: str | None, whole: bool) -> list[Photograph]:
    if not root:
        raise ConfigError(f"bfm:{numbers[0]} needs data=synface data.root=DIR, a folder or zip in that layout")
    true, seen = (SynfaceDataset(root, size=side) for side in (size, gan.config.size))
    if numbers[-1] >= len(true):
        raise ConfigError(f"bfm:{numbers[-1]} does not exist; the test split of {root} has 0 to {len(true) - 1}")
    out = []
    for i in numbers:
        item, name = true[i], true.images[i]
        image = seen[i]["image"]
        if whole:
            image = to_float(load_image(true.files.read(name), true.files.where(name), gan.config.size))
        depth, inside = item["depth"][None], item["mask"][None] > 0.5
        out.append(Photograph(f"bfm{i:04d}", image[None], depth=depth, inside=inside))
    return out


@torch.no_grad()
def _drawn(numbers: list[int], gan: PictureGAN, psi: float) -> list[Photograph]:
    out = []
    for seed in numbers:
        w = gan.code(gan.latents(1, seed=seed, psi=psi))
        out.append(Photograph(f"seed{seed:04d}", gan.synthesise(w).cpu(), w=w.cpu()))
    return out


def prepare(
    photo: Photograph,
    model: GAN2Shape,
    gan: PictureGAN,
    cfg: InstanceConfig,
    features: DiscriminatorLoss | None = None,
    depth_of: Callable[[Tensor], Tensor] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Subject:
    """Invert a photograph, find its foreground and its initial shape.

    Args:
        photo: Is the photograph.
        model: Says how large images and maps are, and which camera sees them.
        gan: Is the frozen GAN.
        cfg: Says how to invert, and which mask and shape to take.
        features: Compares images during inversion, besides L1.
        depth_of: Maps images (1,3,S,S) to depth (1,1,S,S), for an initial shape from another method.
        advance: Is called after each step of the inversion.

    Raises:
        ConfigError: The kind of shape is unknown.
        DataError: The mask is missing or empty.
    """
    w = photo.w if photo.w is not None else invert(photo.image, gan, cfg, features, advance, photo.known)
    image, mask = model.as_seen(photo.image), foreground(photo, model, cfg.mask)
    shape = depth_of(image) if depth_of else initial_shape(cfg.shape, mask, cfg.category, model)
    return Subject(photo.name, image, w, mask, shape, photo.depth, photo.inside)


def invert(
    image: Tensor,
    gan: PictureGAN,
    cfg: InstanceConfig,
    features: DiscriminatorLoss | None = None,
    advance: Callable[[], None] = lambda: None,
    known: Tensor | None = None,
) -> Tensor:
    """Find a latent (1,L,D), one w for each layer, for which the GAN draws an image (1,3,H,H).

    The search starts from the GAN's average. The step length falls to nothing along a cosine, and w is held near the
    average. Parts of the image that are not `known` do not count.
    """
    target, average = image.to(gan.device), gan.average_code()
    inside = None if known is None else known.to(target)
    w = average[:, None].repeat(1, gan.code_layers, 1).requires_grad_(True)
    spread = spread_of(gan)
    optimizer = torch.optim.Adam([w], lr=cfg.inversion_lr * spread)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(cfg.inversion_steps, 1))
    for _ in range(cfg.inversion_steps):
        drawn = gan.synthesise(w)
        loss = photometric_loss(drawn, target, inside) + 1e-3 * ((w - average) / spread).square().mean()
        if features is not None:
            loss = loss + features(drawn, target, inside)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance()
    return w.detach().cpu()


@torch.no_grad()
def spread_of(gan: PictureGAN) -> float:
    """Standard deviation of the numbers in w."""
    z = torch.randn(1000, gan.config.z_dim, generator=torch.Generator().manual_seed(0))
    return float(gan.code(Latents(z)).std(0).mean())


def foreground(photo: Photograph, model: GAN2Shape, kind: str) -> Tensor:
    """The foreground (1,1,S,S) in [0,1] of a photograph; `kind` is as `photographs` has taken it.

    Raises:
        DataError: The photograph has neither an alpha channel nor a mask file.
    """
    size = model.config.size
    if kind == "all":
        return torch.ones(1, 1, size, size)
    if kind == "ellipse":
        return ellipse(size)
    if photo.alpha is None:
        raise DataError(f"{photo.name}: has no transparency to take a mask from; use system.mask=ellipse")
    return model.as_seen(photo.alpha)


def _mask_file(mask: str, name: str, size: tuple[int, int] | None = None) -> Picture:
    """The mask of the picture with this name, brought to its size if it has the same shape."""
    path = user_path(mask, ConfigError, "system.mask=")
    if not path.exists():
        raise ConfigError(f"system.mask={mask}: no such file; or use one of {', '.join(MASKS)}")
    found = [picture for _, picture in _pictures(path, name if path.is_dir() else None, colour=False)]
    if not found:
        raise DataError(f"{path}: no mask {name}.png")
    own = found[0]
    if size is not None and abs(own.size[0] * size[1] - own.size[1] * size[0]) <= max(size):
        own = replace(own, rgb=own.rgb.resize(size), alpha=None if own.alpha is None else own.alpha.resize(size))
    return own


def ellipse(size: int, width: float = 0.8, height: float = 1.0) -> Tensor:
    """A mask (1,1,size,size) that is 1 inside an upright ellipse; half axes are given in halves of the image.

    It is somewhat wider than the embedded heads: the ellipsoid over it has the least depth error of those tried.
    """
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis / height, axis / width, indexing="ij")
    return (x.square() + y.square() <= 1).float()[None, None]


def initial_shape(kind: str, mask: Tensor, category: str, model: GAN2Shape) -> Tensor:
    """Canonical depth (1,1,S,S) to start from: `ellipsoid`, `asymmetric` (its right half is flat) or `flat`.

    Raises:
        ConfigError: The kind or the category is unknown.
        DataError: The foreground is nearly empty.
    """
    if kind not in SHAPES:
        raise ConfigError(f"system.shape={kind}: use one of {', '.join(SHAPES)}, or the name of weights")
    if kind == "flat":
        return torch.full_like(mask, (model.config.min_depth + model.config.max_depth) / 2)
    try:
        depth = ellipsoid_depth(mask[0, 0], category)[None, None]
    except ValueError as error:
        raise DataError(f"system.mask: {error}") from None
    if kind == "asymmetric":
        middle_column = depth.shape[-1] // 2
        depth[..., middle_column:] = depth.amax() - 0.5 * (depth.amax() - depth[..., middle_column:])
    return depth
