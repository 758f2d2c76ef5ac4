"""Record what the originals of `zoo/faces` say, and calibrate poses and framing on rendered heads.

Each step adds to `fixtures/faces.npz`, and needs only the packages named beside it:

    python -m tests.parity.record_faces pictures                 zoo
    python tests/parity/record_faces.py networks PACKAGE.tgz     ai-edge-litert 2.3.0; see zoo/faces/build.py
    python tests/parity/record_faces.py mediapipe                mediapipe 0.10.21
    python -m tests.parity.record_faces calibrate                zoo; prints constants of zoo/faces
"""

import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "fixtures" / "faces.npz"


def network_inputs(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 images in [-1, 1] of 128 and of 192 px with a face, made by whole pixels from 128 or 256 px of uint8."""
    image = picture.astype(np.float32) / 127.5 - 1
    if len(picture) == 128:
        return image, image[24:120, 16:112].repeat(2, 0).repeat(2, 1)
    return image.reshape(128, 2, 128, 2, 3).mean((1, 3)), image[32:224, 32:224]


def load() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return {key: file[key] for key in file.files}


def save(**arrays: np.ndarray) -> None:
    np.savez_compressed(FILE, **((load() if FILE.exists() else {}) | arrays))


def pictures() -> None:
    from PIL import Image
    from skimage import data_dir

    from zoo.heads.dataset import HeadDataset

    astronaut = np.asarray(Image.open(Path(data_dir) / "astronaut.png").convert("RGB"))
    heads = HeadDataset("test", size=128).batch([0, 1, 3])["image"]
    shown = [(head.permute(1, 2, 0).numpy() * 127.5 + 127.5).round().astype(np.uint8) for head in heads]
    save(**{f"in/{i}": picture for i, picture in enumerate([astronaut[:256, 96:352], *shown])})


def networks(package: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    with tarfile.open(package) as archive:
        file = archive.extractfile("package/face_mesh_solution_packed_assets.data")
        assert file
        data = file.read()
    found: dict[str, np.ndarray] = {}
    for step, (name, start, end) in enumerate((("detector", 3757224, 3986256), ("mesh", 2495952, 3737848))):
        network = Interpreter(model_content=data[start:end], num_threads=1)
        network.allocate_tensors()
        for key, picture in load().items():
            if not key.startswith("in/"):
                continue
            image = network_inputs(picture)[step]
            network.set_tensor(network.get_input_details()[0]["index"], (image if step == 0 else image / 2 + 0.5)[None])
            network.invoke()
            outputs = [network.get_tensor(out["index"]).copy() for out in network.get_output_details()]
            large, small = sorted(outputs, key=np.size, reverse=True)
            found |= {f"out/{name}/{key[3:]}": large.reshape(large.size), f"out/{name}_score/{key[3:]}": small.ravel()}
    save(**found)


def mediapipe() -> None:
    import mediapipe as mp

    found: dict[str, Any] = {}
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as mesh:
        for key, picture in load().items():
            if key.startswith("in/"):
                marks = mesh.process(picture).multi_face_landmarks[0].landmark
                points = [[mark.x, mark.y, mark.z] for mark in marks]
                found[f"out/points/{key[3:]}"] = (np.array(points) * len(picture)).astype(np.float32)
    save(**found)


def calibrate() -> None:
    import torch

    from zoo.faces import pose
    from zoo.faces.align import HEAD_POINTS, eyes_and_nose
    from zoo.faces.mesh import find_points
    from zoo.geometry import Camera
    from zoo.heads.dataset import HeadDataset

    def found(split: str, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        heads = HeadDataset(split, size=size)
        items = [heads.batch(list(range(i, i + 20))) for i in range(0, count, 20)]
        return torch.cat([find_points(x["image"]).points for x in items]), torch.cat([x["pose"] for x in items])

    points, true = found("train", 600, 128)
    factors, offsets = torch.tensor(pose.FACTORS), torch.tensor(pose.OFFSETS)
    raw = (pose.measure_poses(points)[:, :2] - offsets) / factors
    pitch = torch.stack([raw[:, 0], torch.ones(len(raw))], 1)
    print("pitch: factor, offset", torch.linalg.lstsq(pitch, true[:, :1]).solution[:, 0].tolist())
    print("yaw: factor", ((raw[:, 1] * true[:, 1]).sum() / raw[:, 1].square().sum()).item())
    points, true = found("val", 300, 128)
    error = torch.rad2deg(pose.measure_poses(points)[:, :2] - true)
    both = [torch.corrcoef(torch.stack([pose.measure_poses(points)[:, k], true[:, k]]))[0, 1].item() for k in (0, 1)]
    print("val: error of pitch and yaw, degrees", error.square().mean(0).sqrt().tolist(), "correlation", both)

    points, true = found("train", 300, 256)
    cameras, seen = Camera.at(true, size=256), eyes_and_nose(points)
    world = torch.tensor(HEAD_POINTS)
    free = torch.tensor([*world[1], *world[2, 1:]], requires_grad=True)  # x, y, z of an eye; y, z of the nose

    def head() -> torch.Tensor:
        x, y, z, low, out = free
        return torch.stack([torch.stack([-x, y, z]), torch.stack([x, y, z]), torch.stack([0 * x, low, out])])

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (cameras.project(head().expand(len(seen), 3, 3))[0] - seen).square().mean()
        value.backward()
        return value

    optimizer = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")
    optimizer.step(loss)
    print("HEAD_POINTS", head().tolist())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
