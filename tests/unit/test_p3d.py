"""The PyTorch3D door: exact cameras, and a Python layer that lives without the native part."""

import subprocess
import sys

import pytest
import torch
from pytorch3d_cameras import to_pytorch3d_camera

from zoo.geometry import Camera
from zoo.renderers.p3d import native, pytorch3d

WITHOUT_NATIVE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "pytorch3d._C":
            raise ImportError("libc10_cuda.so: cannot open shared object file")
sys.meta_path.insert(0, Block())
import torch
from zoo.errors import ZooError
from zoo.renderers.p3d import native, pytorch3d
works, reason = native()
assert not works and "libc10_cuda.so" in reason, reason
p3d = pytorch3d()
verts = torch.tensor([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], requires_grad=True)
faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
mesh = p3d.structures.Meshes([verts], [faces], p3d.renderer.TexturesVertex([torch.ones(4, 3)]))
p3d.loss.mesh_laplacian_smoothing(mesh).backward()
camera = p3d.renderer.PerspectiveCameras()
camera.transform_points(mesh.verts_padded() + 1)
try:
    p3d.renderer.mesh.rasterize_meshes(mesh, 8)
except ZooError as error:
    assert len(str(error).splitlines()) == 1 and "zoo doctor" in str(error), error
    print("refused")
"""


@pytest.mark.parametrize("rule", ["corner", "half"])
@pytest.mark.parametrize(("fov", "size", "radius"), [(12.0, 64, 1.0), (40.0, 33, 2.7)])
def test_known_points_land_on_the_same_pixel(rule: str, fov: float, size: int, radius: float) -> None:
    yaw, pitch = torch.tensor([0.0, 0.3, -0.9]), torch.tensor([0.0, 0.2, -0.4])
    camera = Camera.orbit(yaw, pitch, fov=fov, size=size, radius=radius, pixel_centres=rule)  # type: ignore[arg-type]
    points = (torch.rand(3, 20, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.2
    pixels, depth = camera.project(points)
    theirs = to_pytorch3d_camera(camera)
    screen = theirs.transform_points_screen(points, with_xyflip=True)
    # 1e-3 px: float32 at a few hundred pixels; the two pixel rules lie 0.29 px apart at 64 px.
    torch.testing.assert_close(screen[..., :2] - 0.5, pixels, atol=1e-3, rtol=0)
    view = theirs.get_world_to_view_transform().transform_points(points)
    torch.testing.assert_close(view[..., 2], depth, atol=1e-5, rtol=0)


def test_the_frontal_camera_keeps_left_and_right() -> None:
    camera = Camera.orbit(fov=90.0, size=65)
    point = torch.tensor([[[0.5, 0.25, 0.0]]])  # right and up in the world, one unit from the camera
    screen = to_pytorch3d_camera(camera).transform_points_screen(point, with_xyflip=True)
    torch.testing.assert_close(screen[0, 0, :2], torch.tensor([48.5, 24.5]))


@pytest.mark.skipif(not native()[0], reason="PyTorch3D's native part does not load here")
@pytest.mark.parametrize("rule", ["corner", "half"])
def test_rasterized_depth_is_the_depth_of_our_rays(rule: str) -> None:
    p3d = pytorch3d()
    camera = Camera.orbit(0.3, -0.1, fov=30.0, size=32, pixel_centres=rule)  # type: ignore[arg-type]
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    wall = p3d.structures.Meshes([corners], [torch.tensor([[0, 1, 2], [0, 2, 3]])])
    settings = p3d.renderer.RasterizationSettings(image_size=32, bin_size=0)
    z = p3d.renderer.MeshRasterizer(to_pytorch3d_camera(camera), settings)(wall).zbuf[0, ..., 0]
    origins, directions, cosine = camera.rays()
    along = -origins[0, :, 2] / directions[0, :, 2]
    torch.testing.assert_close(z.reshape(-1), along * cosine, atol=1e-5, rtol=0)


def test_the_python_layer_lives_without_the_native_part() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NATIVE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "refused"


def test_native_says_why_when_pytorch3d_is_missing() -> None:
    code = "import sys; sys.modules['pytorch3d'] = None\nfrom zoo.renderers.p3d import native\nprint(native())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install easypytorch3d" in done.stdout, done.stderr
