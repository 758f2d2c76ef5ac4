"""Films: turntables, or any pictures in a row, written whole or not at all."""

import contextlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ZooError
from ..runtime.files import at_once
from ..version import __version__
from .sheets import grid, maps_of, png

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..generators.base import Generator, Latents
    from ..geometry import Light


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
    maps: str | Sequence[str] = "rgb",
    notes: Mapping[str, Any] | None = None,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Film objects side by side while the camera swings from side to side and back, in a seamless loop.

    Args:
        generator: Any generator with cameras.
        latents: B objects.
        path: A `.mp4`; a `.webp` or `.gif` for pages that can only show pictures (a GIF has 256 colours per frame,
            dithered, and at most 50 frames a second); or a new folder for numbered PNGs.
        frames: Number of frames in one swing.
        size: Side of each picture in pixels; a `.mp4` is padded to even sides, which its codec needs.
        fps: Frames per second.
        yaw: How far the camera swings to each side, in radians. By default it is as far as the poses of the training
            data reach, for a normal distribution two deviations; the view stands still where they were all alike.
        pitch: Pitch of the camera in radians, the same throughout.
        light: The light, which stays with the object; by default the one that the method uses by itself.
        maps: The rows, see `grid`.
        notes: Model, seed, command; they are stored in the file.
        advance: Called after every frame.

    Returns:
        The path.

    Raises:
        ConfigError: The generator has no cameras, there are fewer than 2 frames, a map or the suffix is unknown, or the
            pictures are larger or faster than this kind of film allows.
        ZooError: The folder already exists, or the encoder failed.
    """
    from ..priors import pose_prior

    generator.need_camera("turntable")
    if frames < 2:
        raise ConfigError(f"frames={frames}: a turntable needs at least 2")
    rows = maps_of(maps)
    reach = pose_prior(generator.scene.pose).yaw_reach if yaw is None else yaw

    seen: dict[float, Image] = {}  # the way back shows what the way there has shown

    def frame(index: int) -> "Image":
        import torch

        angle = round(reach * math.sin(2 * math.pi * index / frames), 9)
        if angle in seen:
            return seen.pop(angle)
        with torch.no_grad():
            seen[angle] = grid(generator(latents, generator.camera(angle, pitch, size), light), maps=rows)
        return seen[angle]

    whole = (len(latents) * size, len(rows) * size)
    return film(map(frame, range(frames)), path, size=whole, fps=fps, notes=notes, advance=advance)


def film(
    frames: "Iterable[Image]",
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int],
    fps: int = 25,
    notes: Mapping[str, Any] | None = None,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Write pictures as a film, or as numbered PNGs in a folder. What was at `path` stays until the whole film exists.

    Args:
        frames: The pictures, each of which is drawn only when its turn comes.
        path, fps, notes, advance: See `turntable`.
        size: Width and height of every picture in pixels. A film that is too large is refused before any is drawn.

    Raises:
        ConfigError: The suffix is unknown, or the pictures are larger or faster than this kind of film allows.
        ZooError: The folder already exists, or the encoder failed.
    """
    path = Path(path)
    need_film(path)
    kind = path.suffix.lower()
    if max(size) > (most := _LARGEST.get(kind, max(size))):
        fix = "ask for fewer objects, fewer maps or a smaller size, or write a folder of PNGs"
        raise ConfigError(f"{path}: {size[0]} x {size[1]} px, and a {kind} has at most {most} per side; {fix}")
    if kind == ".gif" and fps > _FASTEST_GIF:
        raise ConfigError(f"{path}: fps={fps}, and a .gif has at most {_FASTEST_GIF}; use fewer, or .webp or .mp4")

    def counted() -> "Iterator[Image]":
        for image in frames:
            yield image
            if advance:
                advance()

    with at_once(path) as part:
        _FILMS[kind](counted(), part, fps, {"zoo": __version__, **(notes or {})})
    return path


def need_film(path: Path) -> None:
    """Refuse a kind of film that `film` does not write, and a folder that is there already.

    Raises:
        ConfigError: The suffix is unknown.
        ZooError: The folder already exists.
    """
    if path.suffix.lower() not in _FILMS:
        raise ConfigError(f"{path}: unknown kind of film; use .mp4, .webp, .gif or a folder name")
    if not path.suffix and path.exists():
        raise ZooError(f"{path} exists: choose a new folder for the frames")


def _even(image: "Image") -> "Image":
    from PIL import ImageOps

    return ImageOps.expand(image, (0, 0, image.width % 2, image.height % 2))


def _write_mp4(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    import subprocess
    import tempfile

    import imageio_ffmpeg

    film = map(_even, film)
    first = next(film)
    comment = json.dumps({k: str(v) for k, v in notes.items()})
    picture = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.width}x{first.height}", "-r", str(fps), "-i", "-"]
    codec = ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "25", "-metadata", f"comment={comment}"]
    with tempfile.TemporaryFile() as said:
        # imageio_ffmpeg's own writer would not tell how the encoder ended.
        encoder = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *picture, *codec, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        assert encoder.stdin is not None
        try:
            # An encoder that ends early breaks the pipe; the reason is read below.
            with contextlib.suppress(BrokenPipeError), encoder.stdin as pipe:
                for image in itertools.chain([first], film):
                    pipe.write(image.tobytes())
        except BaseException:
            encoder.kill()
            raise
        finally:
            encoder.wait()
        if encoder.returncode:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip().splitlines()
            ended = f"signal {-encoder.returncode}" if encoder.returncode < 0 else f"exit code {encoder.returncode}"
            raise ZooError(
                f"{path.name}: the encoder ended with {ended}: {reason[-1] if reason else 'no reason given'}"
            )


def _write_webp(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    from PIL import ExifTags
    from PIL.Image import Exif

    first, *rest = list(film)
    about = Exif()
    about[ExifTags.Base.ImageDescription] = json.dumps({k: str(v) for k, v in notes.items()})
    delays = list(itertools.islice(_delays(fps, 1000), 1 + len(rest)))
    kwargs: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": delays, "loop": 0}
    first.save(path, quality=90, exif=about, **kwargs)  # below 90, blocks show around the objects


def _write_gif(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    comment = json.dumps({k: str(v) for k, v in notes.items()}).encode()
    frames = map(_quantised, film, _delays(fps, 100))
    next(frames).save(path, save_all=True, append_images=frames, loop=0, comment=comment)


def _quantised(image: "Image", delay: int) -> "Image":
    """The frame in 256 colours of its own, dithered, because smooth maps such as normals would otherwise show bands.

    It is shown for `delay` hundredths of a second, which Pillow takes in milliseconds.
    """
    from PIL.Image import Dither

    colours = image.quantize(256, kmeans=1)
    frame = image.quantize(palette=colours, dither=Dither.FLOYDSTEINBERG)
    frame.info["duration"] = 10 * delay
    return frame


def _delays(fps: int, ticks: int) -> "Iterator[int]":
    """For how many ticks each frame is shown, so that none begins more than half a tick off its time.

    Args:
        fps: Frames per second.
        ticks: Ticks per second, the unit in which a kind of film keeps time.
    """
    ends = (round(ticks * index / fps) for index in itertools.count())
    return (end - begin for begin, end in itertools.pairwise(ends))


def _write_frames(film: "Iterator[Image]", path: Path, fps: int, notes: Mapping[str, Any]) -> None:
    path.mkdir()
    for index, image in enumerate(film):
        (path / f"{index:04d}.png").write_bytes(png(image, notes))


_LARGEST = {".mp4": 16384, ".webp": 16383, ".gif": 65535}  # pixels per side
_FASTEST_GIF = 50  # frames a second; browsers show shorter delays as a tenth of a second
_FILMS = {".mp4": _write_mp4, ".webp": _write_webp, ".gif": _write_gif, "": _write_frames}
