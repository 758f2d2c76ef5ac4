"""The bridge from zoo's cameras to PyTorch3D's that docs/conventions.md writes down."""

import math
from typing import Any

from zoo.geometry import Camera
from zoo.renderers.p3d import pytorch3d


def to_pytorch3d_camera(camera: Camera) -> Any:
    """The same cameras as PyTorch3D's, exact for both pixel rules.

    PyTorch3D's camera axes are x left, y up, z forward, with row vectors (X @ R + T), and its screen counts from the
    outer corner of the first pixel: pixel coordinates of `Camera.project` are its screen coordinates minus 0.5.

    Returns:
        PerspectiveCameras in screen space (in_ndc=False), focal length and principal point in pixels.
    """
    size, device = camera.size, camera.cam2world.device
    flip = camera.cam2world.new_tensor([-1.0, 1.0, -1.0])  # x right -> left, -z forward -> z forward
    rotation = camera.cam2world[:, :3, :3] * flip
    translation = -(camera.cam2world[:, None, :3, 3] @ rotation)[:, 0]
    # "corner" spreads the frustum over the distance between the outermost centres, one pixel less than the image.
    span = size - 1 if camera.pixel_centres == "corner" else size
    return pytorch3d().renderer.PerspectiveCameras(
        focal_length=span / 2 / math.tan(math.radians(camera.fov) / 2),
        principal_point=((size / 2, size / 2),),
        R=rotation,
        T=translation,
        in_ndc=False,
        image_size=((size, size),),
        device=device,
    )
