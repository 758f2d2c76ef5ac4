"""The face on a photograph: where it is, which way it is turned, and what makes a reconstruction of it doubtful."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..faces.align import eyes_and_nose, find_largest
from ..faces.pose import measure_poses

_SURE = 0.9  # of nearly all faces it is as good as certain, also behind glasses and hands; a covered half it doubts
_SMALL = 24  # px between the eyes and the base of the nose, added up; smaller faces show hardly any features
_GREY = 4.0  # mean difference of the channels, of 255, up to which a photograph has no colours


@dataclass(frozen=True)
class Face:
    """A face on a photograph.

    Attributes:
        places: (3, 2) eyes and base of the nose in pixels, beginning with the eye on the left.
        pose: (2,) pitch and yaw in radians, as the face mesh shows them; None if they are not known.
        notes: What makes a reconstruction doubtful, one sentence each.
    """

    places: Tensor
    pose: Tensor | None = None
    notes: tuple[str, ...] = ()


def look(image: Image.Image, where: str = "the picture") -> Face:
    """Look at the largest face of an RGB image.

    Raises:
        DataError: There is no face.
    """
    try:
        faces = find_largest(image, where)
    except DataError as error:
        raise DataError(f"{error}, or switch alignment off (align=False or --no-align)") from None
    places, notes = eyes_and_nose(faces.points)[0], []
    if (count := int(faces.counts[0])) > 1:
        notes.append(f"shows {count} faces; the largest is taken")
    if (score := float(faces.scores[0])) < _SURE:
        notes.append(f"the face mesh is not sure of this face ({score:.2f}); much of it may be covered")
    if float((places - places.mean(0)).norm(dim=1).sum()) < _SMALL:
        notes.append("the face is a few pixels wide; its features are guessed")
    if _colours(image) < _GREY:
        notes.append("the photograph is black-and-white, and so is the object")
    return Face(places, measure_poses(faces.points)[0, :2], tuple(notes))


def _colours(image: Image.Image) -> float:
    """Mean difference between the largest and the least channel of a picture, of 255."""
    pixels = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR), np.float32)
    return float((pixels.max(-1) - pixels.min(-1)).mean())
