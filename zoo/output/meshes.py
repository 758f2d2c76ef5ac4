"""Meshes as files for Blender and other programs: .glb, .obj, .ply, .stl."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ZooError
from ..runtime.files import atomic_write, printable
from ..version import __version__

if TYPE_CHECKING:
    import numpy as np
    import trimesh
    from pytorch3d.structures import Meshes
    from torch import Tensor


_MESH_FILES = (".glb", ".obj", ".ply", ".stl")
_MATERIAL = {"metallicFactor": 0.0, "roughnessFactor": 0.95}  # like skin; without a material, glTF assumes metal


def export(meshes: "Meshes", path: str | os.PathLike[str], notes: Mapping[str, Any] | None = None) -> Path:
    """Write one mesh as .glb, .obj, .ply or .stl: Y up, face towards +Z, vertices shared.

    Colours in .obj and .ply files are 8-bit sRGB. A .glb has what its format asks for: linear numbers at the vertices,
    or an sRGB picture, on a rough, non-metallic material that is seen from both sides if the surface is open. Units and
    centre are those of the world frame and are stated in the file (in the extras of a .glb, in comments elsewhere), and
    so are zoo's version and the notes (in `asset.extras` of a .glb). The same mesh has the same bytes each time.
    An .stl, for printers, has the bare shape: no colours, no comments, no shared vertices.

    Args:
        meshes: A batch of one, as `Generator.mesh` makes it, with colours in [0, 1] at the vertices, a texture, or
            neither. A .glb gets the whole texture; .obj and .ply get its colours at the vertices.
        path: Where to write; the suffix chooses the format, in capitals or not.
        notes: Where it comes from, such as model, seed and command.

    Returns:
        The path.

    Raises:
        ConfigError: The suffix is unknown, or there is not exactly one mesh.
        ZooError: The mesh is empty, a coordinate is not finite, or the textures are of another kind.
    """
    path = Path(path)
    return atomic_write(path, encode(meshes, path, notes))


def encode(meshes: "Meshes", path: Path, notes: Mapping[str, Any] | None = None) -> str | bytes:
    """What `export` writes to `path`, for those who put it elsewhere; it raises what `export` does."""
    import numpy as np
    import trimesh

    need_mesh_file(path)
    kind = path.suffix.lower()
    if len(meshes) != 1:
        raise ConfigError(f"{path}: one file cannot hold {len(meshes)} meshes; export them one by one, e.g. meshes[0]")
    batch: Any = meshes  # PyTorch3D's annotations say that packed tensors may be None
    vertices = batch.verts_packed().detach().cpu().double().numpy()
    faces = batch.faces_packed().detach().cpu().numpy()
    if not len(faces) or not np.isfinite(vertices).all():
        raise ZooError(f"{path}: the mesh is {'not finite' if len(faces) else 'empty'}; try another seed or level")
    low, high = vertices.min(0), vertices.max(0)
    origin = {"zoo": __version__, **{key: printable(value) for key, value in (notes or {}).items()}}
    about = {
        "generator": "zoo",
        "frame": "right-handed, +Y up, front +Z",
        "units": "zoo world units (the camera stands 1 unit from the origin unless its scene says otherwise)",
        "centre": "world origin, not re-centred",
        "bounds": json.dumps([low.round(5).tolist(), high.round(5).tolist()]),
    }
    mesh = trimesh.Trimesh(vertices, faces, visual=_visual(meshes, path, glb=kind == ".glb"), process=False)
    mesh.metadata.update(about)
    comments = [f"{key}: {value}" for key, value in (about | origin).items()]
    if kind == ".glb":
        return _glb(mesh, _colours(meshes), origin)
    if kind == ".stl":
        solid: Any = mesh.export(file_type="stl")
        return bytes(solid)
    if kind == ".obj":
        text: Any = mesh.export(file_type="obj", header="\n# ".join(comments))
        return str(text)
    data: Any = mesh.export(file_type="ply", vertex_normal=True)
    start, _, rest = data.partition(b"\nelement ")
    return bytes(start + b"".join(f"\ncomment {line}".encode() for line in comments) + b"\nelement " + rest)


def need_mesh_file(path: Path) -> None:
    """Refuse a kind of file that `export` does not write.

    Raises:
        ConfigError: The suffix is unknown.
    """
    if path.suffix.lower() not in _MESH_FILES:
        raise ConfigError(f"{path}: unknown kind of mesh file; use {', '.join(_MESH_FILES)}")


def _visual(meshes: "Meshes", path: Path, *, glb: bool) -> Any:
    """Colours as trimesh takes them: a picture with coordinates for .glb, 8-bit colours at the vertices elsewhere."""
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
        return None if glb else ColorVisuals(vertex_colors=_bytes(textures.verts_features_packed()))
    if kind != "TexturesUV" or not bool((textures.faces_uvs_padded()[0] == meshes.faces_padded()[0]).all()):
        raise ZooError(
            f"{path}: the colours are {kind}; give colours at vertices, or a texture with one coordinate per vertex"
        )
    picture, uv = textures.maps_padded()[0], textures.verts_uvs_padded()[0]
    if not glb:
        at = uv * uv.new_tensor([2.0, -2.0]) - uv.new_tensor([1.0, -1.0])
        sampled = F.grid_sample(picture.permute(2, 0, 1)[None], at[None, None], align_corners=True)
        return ColorVisuals(vertex_colors=_bytes(sampled[0, :, 0].T))
    # Our texture coordinates name centres of texels; glTF's 0 and 1 are the outer edges of the picture.
    side = np.array([picture.shape[1], picture.shape[0]])
    edges = (uv.detach().cpu().double().numpy() * (side - 1) + 0.5) / side
    image = Image.fromarray(_bytes(picture))
    return TextureVisuals(edges, material=PBRMaterial(baseColorTexture=image, **_MATERIAL))


def _colours(meshes: "Meshes") -> "np.ndarray | None":
    """Linear colours (V, 3) at the vertices, float32, for a .glb; None if the mesh has no colours there."""
    import torch

    textures: Any = meshes.textures
    if type(textures).__name__ != "TexturesVertex":
        return None
    srgb = textures.verts_features_packed().detach().cpu().clamp(0, 1)
    # IEC 61966-2-1, the transfer function of sRGB.
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).float().numpy()


def _glb(mesh: "trimesh.Trimesh", colours: "np.ndarray | None", origin: dict[str, str]) -> bytes:
    """The bytes of a binary glTF file that says where it comes from.

    trimesh writes colours as 8-bit numbers, which are too coarse for dark tones if the colours are linear. So they go
    in as an attribute of ours, which gets the format's name for colours at the end.
    """
    import trimesh

    if colours is not None:
        mesh.vertex_attributes["_colour"] = colours

    def finish(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = origin
        if colours is not None:
            attributes = tree["meshes"][0]["primitives"][0]["attributes"]
            attributes["COLOR_0"] = attributes.pop("_colour")
        if "materials" not in tree:
            tree["materials"] = [{"pbrMetallicRoughness": dict(_MATERIAL)}]
            tree["meshes"][0]["primitives"][0]["material"] = 0
        tree["materials"][0]["doubleSided"] = not mesh.is_watertight

    out: bytes = trimesh.Scene(mesh).export(file_type="glb", include_normals=True, tree_postprocessor=finish)
    return out


def _bytes(colours: "Tensor") -> "np.ndarray":
    return (colours.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
