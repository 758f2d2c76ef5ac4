"""What a generator makes, compared with real heads without any probe: shapes, pictures, and whether views agree."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...generators.base import Generator, Latents
from ...geometry import Camera
from ...heads.dataset import HeadDataset
from ...heads.sampling import FOV
from ...metrics.shapespace import ShapeSpace, shape_figures
from ...runtime.progress import Steps
from .protocol import ShapeProtocol
from .truth import frontal_heads, frontal_mean

