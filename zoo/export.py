"""Files to look at: meshes for Blender, contact sheets, turntables. Everything is written whole or not at all.

Colours go from [-1, 1] to 0..255 by one fixed linear map; nothing is stretched to its own range
except depth, which has none.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ZooError
from .files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from pytorch3d.structures import Meshes
    from torch import Tensor

    from .generators.base import Generator, Latents
    from .geometry import Light, Render

MAPS = ("rgb", "albedo", "normal", "depth", "shading")
_MESH_FILES = (".glb", ".obj", ".ply")
_LABEL_HEIGHT = 14


def export(meshes: "Meshes", path: str | os.PathLike[str]) -> Path:
    """Write one mesh as .glb, .obj or .ply: Y up, face towards +Z, vertices shared, vertex colours to 8 bits.

    Units and centre are those of the world frame and are stated in the file (extras of a .glb, comments elsewhere).

    Args:
        meshes: a batch of one, as `Generator.mesh` gives; colours in [0, 1] at the vertices, a texture, or none. A
            texture goes into a .glb whole; .obj and .ply get its colours at the vertices.
        path: target; the suffix chooses the format.

    Returns:
        The path.

    Raises:
        ConfigError: another suffix, or not exactly one mesh.
        ZooError: an empty mesh, coordinates that are not finite, textures of another kind.
    """
    import numpy as np
    import trimesh

    path = Path(path)
    if path.suffix not in _MESH_FILES:
        raise ConfigError(f"{path}: unknown kind of mesh file; use {', '.join(_MESH_FILES)}")
    if len(meshes) != 1:
        raise ConfigError(f"{path}: {len(meshes)} meshes for one file; export them one by one, e.g. meshes[0]")
    batch: Any = meshes  # PyTorch3D's annotations say that packed tensors may be None
    vertices = batch.verts_packed().detach().cpu().double().numpy()
    faces = batch.faces_packed().detach().cpu().numpy()
    if not len(faces) or not np.isfinite(vertices).all():
        raise ZooError(f"{path}: the mesh is {'not finite' if len(faces) else 'empty'}; try another seed or level")
    low, high = vertices.min(0), vertices.max(0)
    notes = {
        "generator": "zoo",
        "frame": "right-handed, +Y up, front +Z",
        "units": "zoo world units (the camera stands 1 unit from the origin unless its scene says otherwise)",
        "centre": "world origin, not re-centred",
        "bounds": json.dumps([low.round(5).tolist(), high.round(5).tolist()]),
    }
    mesh = trimesh.Trimesh(vertices, faces, visual=_visual(meshes, path), process=False)
    mesh.metadata.update(notes)
    comments = [f"{key}: {value}" for key, value in notes.items()]
    data: Any
    if path.suffix == ".glb":
        data = trimesh.Scene(mesh).export(file_type="glb", include_normals=True)
    elif path.suffix == ".obj":
        data = mesh.export(file_type="obj", header="\n# ".join(comments))
    else:
        data = mesh.export(file_type="ply", vertex_normal=True)
        start, _, rest = data.partition(b"\nelement ")
        data = start + b"".join(f"\ncomment {line}".encode() for line in comments) + b"\nelement " + rest
    return atomic_write(path, data)


def _visual(meshes: "Meshes", path: Path) -> Any:
    """Colours as trimesh takes them: a picture with coordinates for .glb, else 8-bit colours at the vertices."""
    import numpy as np
    import torch.nn.functional as F
    from PIL import Image
    from trimesh.visual import ColorVisuals, TextureVisuals
    from trimesh.visual.material import PBRMaterial

    textures: Any = meshes.textures
    if textures is None:
        return None
    kind = type(textures).__name__
    if kind == "TexturesVertex":
        colours = textures.verts_features_packed()
        return ColorVisuals(vertex_colors=_bytes(colours))
    if kind != "TexturesUV" or not bool((textures.faces_uvs_padded()[0] == meshes.faces_padded()[0]).all()):
        raise ZooError(f"{path}: only colours at vertices or a texture with one coordinate a vertex, not {kind}")
    picture, uv = textures.maps_padded()[0], textures.verts_uvs_padded()[0]
    if path.suffix != ".glb":
        at = uv * uv.new_tensor([2.0, -2.0]) - uv.new_tensor([1.0, -1.0])
        sampled = F.grid_sample(picture.permute(2, 0, 1)[None], at[None, None], align_corners=True)
        return ColorVisuals(vertex_colors=_bytes(sampled[0, :, 0].T))
    # A texture coordinate of ours names the centre of a texel, glTF's 0 and 1 are the outer edges of the picture.
    side = np.array([picture.shape[1], picture.shape[0]])
    edges = (uv.detach().cpu().double().numpy() * (side - 1) + 0.5) / side
    image = Image.fromarray(_bytes(picture))
    return TextureVisuals(edges, material=PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0))


def _bytes(colours: "Tensor") -> "np.ndarray":
    return (colours.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()


def grid(renders: "Render | Sequence[Render]", *, maps: Sequence[str] = MAPS, labels: Sequence[str] = ()) -> "Image":
    """A contact sheet: one column for each object, one row for each map that the method has.

    Args:
        renders: one or several; their objects stand side by side. All of one size.
        maps: rows, out of `MAPS`. Colours [-1, 1] -> 0..255, normals (n + 1) / 2, shading [0, 1] -> 0..255, depth
            light where near within the objects of the sheet; normals and depth are grey where there is no surface.
        labels: text above the columns.

    Raises:
        ConfigError: an unknown map, no map at all, or a label count that differs from the number of objects.
    """
    from PIL import Image, ImageDraw

    from .geometry import Render

    if unknown := [name for name in maps if name not in MAPS]:
        raise ConfigError(f"unknown map {unknown[0]!r}; known: {', '.join(MAPS)}")
    render = renders if isinstance(renders, Render) else Render.cat(list(renders))
    render = render.cpu()
    rows = [_picture(name, render) for name in maps if getattr(render, name) is not None]
    if not rows:
        raise ConfigError(f"this render has none of the maps {', '.join(maps)}")
    n, size = len(render.rgb), render.rgb.shape[-1]
    if labels and len(labels) != n:
        raise ConfigError(f"{len(labels)} labels for {n} objects")
    top = _LABEL_HEIGHT if labels else 0
    sheet = Image.new("RGB", (n * size, top + len(rows) * size))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * size, top + row * size))
    for column, label in enumerate(labels):
        ImageDraw.Draw(sheet).text((column * size + 2, 1), label, fill="white")
    return sheet


def _picture(name: str, render: "Render") -> "np.ndarray":
    """One map of a batch as (B, H, W, 3) uint8."""
    import torch

    from . import pictures

    value: Tensor = getattr(render, name)
    inside = torch.ones_like(render.rgb[:, :1]) > 0 if render.mask is None else render.mask > 0.5
    if name == "depth":
        unit = pictures.show_depth(value, inside)
    elif name == "normal":
        unit = pictures.show_normal(value, inside)
    else:
        unit = value if name == "shading" else pictures.show_image(value)
    pixels = (unit.clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def stack(images: "Sequence[Image]") -> "Image":
    """Pictures below each other, left-aligned on black."""
    from PIL import Image

    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)))
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def captioned(rows: "Sequence[Mapping[str, Image]]") -> "Image":
    """Rows of pictures with their captions above them, on black."""
    from PIL import Image, ImageDraw

    bars = []
    for row in rows:
        height = _LABEL_HEIGHT + max(picture.height for picture in row.values())
        bar = Image.new("RGB", (sum(picture.width for picture in row.values()), height))
        left = 0
        for caption, picture in row.items():
            bar.paste(picture, (left, _LABEL_HEIGHT))
            ImageDraw.Draw(bar).text((left + 2, 1), caption, fill="white")
            left += picture.width
        bars.append(bar)
    return stack(bars)


def save_png(image: "Image", path: str | os.PathLike[str], notes: Mapping[str, Any]) -> Path:
    """Write a PNG that says where it comes from: each of `notes` (model, seed, command) becomes a text chunk.

    Raises:
        ConfigError: another suffix than .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(f"{path}: pictures are written as .png")
    return atomic_write(path, _png(image, notes))


def _png(image: "Image", notes: Mapping[str, Any]) -> bytes:
    import io

    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for key, value in notes.items():
        chunks.add_itxt(key, str(value))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def turntable(
    generator: "Generator",
    latents: "Latents",
    path: str | os.PathLike[str],
    frames: int = 60,
    *,
    size: int = 128,
    fps: int = 25,
    yaw: float | None = None,
    pitch: float = 0.0,
    light: "Light | None" = None,
    maps: Sequence[str] = ("rgb",),
    notes: Mapping[str, Any] | None = None,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Film objects side by side while the camera swings from side to side and back, in a seamless loop.

    Args:
        generator: any.
        latents: B objects.
        path: `.mp4`; `.webp` or `.gif` for pages that show pictures only (a GIF has 256 colours per frame, dithered);
            or a folder that does not exist yet for numbered PNGs.
        frames: of one swing.
        size: of each picture in pixels; films are padded to even sides, which the codec wants.
        fps: frames per second.
        yaw: how far to each side, in radians; by default twice the deviation of the training data, all that a model
            knows.
        pitch: the same throughout, in radians.
        light: stays with the object; by default what the method takes when it is given none.
        maps: rows, see `grid`.
        notes: model, seed, command; stored in the file.
        advance: called after every frame.

    Returns:
        The path.

    Raises:
        ConfigError: fewer than 2 frames, another suffix.
        ZooError: the folder exists already.
    """
    generator.need_camera("turntable")
    if frames < 2:
        raise ConfigError(f"frames={frames}: a turntable needs at least 2")
    reach = min(2 * generator.scene.pose.yaw_std, math.pi) if yaw is None else yaw

    def frame(index: int) -> "Image":
        import torch

        with torch.no_grad():
            camera = generator.camera(reach * math.sin(2 * math.pi * index / frames), pitch, size)
            return grid(generator(latents, camera, light), maps=maps)

    return film(map(frame, range(frames)), path, fps=fps, notes=notes, advance=advance)


def film(
    frames: "Iterable[Image]",
    path: str | os.PathLike[str],
    *,
    fps: int = 25,
    notes: Mapping[str, Any] | None = None,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Write pictures of one size as a film, or as numbered PNGs in a folder; see `turntable` for the arguments.

    Raises:
        ConfigError: another suffix.
        ZooError: the folder exists already.
    """
    import tempfile

    path = Path(path)
    if path.suffix not in _FILMS:
        raise ConfigError(f"{path}: unknown kind of film; use .mp4, .webp, .gif or a folder name")
    if not path.suffix and path.exists():
        raise ZooError(f"{path} exists: choose a new folder for the frames")

    def counted() -> "Iterator[Image]":
        for image in frames:
            yield _even(image)
            if advance:
                advance()

    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename and not a copy.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as folder:
        part = Path(folder) / path.name
        _FILMS[path.suffix](counted(), part, fps, notes or {})
        os.replace(part, path)
    return path


def _even(image: "Image") -> "Image":
    from PIL import ImageOps

    return ImageOps.expand(image, (0, 0, image.width % 2, image.height % 2))


def _write_mp4(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    import imageio_ffmpeg

    writer = None
    comment = json.dumps({k: str(v) for k, v in notes.items()})
    try:
        for image in film:
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(path),
                    image.size,
                    fps=fps,
                    macro_block_size=2,
                    output_params=["-metadata", f"comment={comment}"],
                )
                writer.send(None)
            writer.send(image.tobytes())
    finally:
        if writer is not None:
            writer.close()


def _write_webp(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    from PIL import ExifTags
    from PIL.Image import Exif

    first, *rest = list(film)
    about = Exif()
    about[ExifTags.Base.ImageDescription] = json.dumps({k: str(v) for k, v in notes.items()})
    kwargs: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": round(1000 / fps), "loop": 0}
    first.save(path, quality=90, exif=about, **kwargs)  # below 90, blocks show around the objects


def _write_gif(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    first, *rest = [_quantised(image) for image in film]
    comment = json.dumps({k: str(v) for k, v in notes.items()}).encode()
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, comment=comment)


def _quantised(image: "Image") -> "Image":
    """256 colours of the frame's own, dithered: smooth maps such as normals show bands otherwise."""
    from PIL.Image import Dither

    colours = image.quantize(256, kmeans=1)
    return image.quantize(palette=colours, dither=Dither.FLOYDSTEINBERG)


def _write_frames(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    path.mkdir()
    for index, image in enumerate(film):
        (path / f"{index:04d}.png").write_bytes(_png(image, notes))


_FILMS = {".mp4": _write_mp4, ".webp": _write_webp, ".gif": _write_gif, "": _write_frames}
