"""The numbers that fix a test on photographs."""

from dataclasses import dataclass
from typing import Self

from ...errors import ConfigError
from ..benchmark import Options
from ..departures import with_departures
from .pictures import compared_points


@dataclass(frozen=True)
class PhotosProtocol:
    """Everything a figure depends on, besides the method and the photographs.

    Attributes:
        name: What is printed beside every figure; it changes whenever a number below does.
        n_test: Number of photographs, and of samples that are compared with them.
        n_invert: Number of photographs that are inverted.
        n_tune: Number of those to which the generator is tuned, too.
        size: Side in pixels of the images that methods see and make.
        steps: Steps of an inversion at most.
        reach: Degrees of yaw from the front to which reconstructions are turned.
    """

    name: str = "photos-v1"
    n_test: int = 200
    n_invert: int = 0
    n_tune: int = 0
    size: int = 64
    steps: int = 150
    reach: float = 20.0

    @classmethod
    def of(cls, options: Options) -> Self:
        """The protocol with its departures.

        Raises:
            ConfigError: A number is out of range, or more photographs are to be tuned to than are inverted.
        """
        chosen = cls("photos-v1/quick", n_test=40) if options.quick else cls()
        given = {key: value for key, value in options.settings.items() if key in ("n_test", "n_invert", "n_tune")}
        rules = with_departures(chosen, given, {"n_invert": 0, "n_tune": 0})
        if rules.n_tune > rules.n_invert:
            raise ConfigError(
                f"n_tune={rules.n_tune}: give n_invert={rules.n_tune} or more, as what is tuned was inverted"
            )
        return rules

    def words(self) -> list[str]:
        """The protocol in sentences, for people."""
        said = [
            f"{self.n_test} photographs of held-out people (fewer if the folder has fewer, or shows fewer faces), cut "
            f"by eyes and nose to the framing of each method's training images, at {self.size} px. Who is on a "
            "photograph is told by the name before its number, else by the folder, else each shows somebody else. "
            "People of the test split of data=lfw come first, and different people before more pictures of one.",
            "Photographs have no true depth. The reference is the face mesh of zoo.faces, whose 468 points come from a "
            "network, too; on rendered heads its depth correlates with the truth by 0.83 on average and by 0.42 at "
            "worst. So columns are called agreement, not error, and a perfect method would not reach 1.",
            f"Depth agreement is the correlation of a method's depth with the mesh's at {len(compared_points())} "
            "points from forehead to chin, after each has lost the plane that fits it best; mean over people. Yaw and "
            "pitch agreement is the correlation over photographs of the camera that a method reads with the pose of "
            "the mesh. "
            "Where depth is flat, its agreement is 0; a method that gives nothing else has none.",
            f"KID compares samples (psi 1, poses and lights of the method's priors) with as many photographs "
            f"(InceptionV3, with zoo3d[fid]), N = {self.n_test} at most. Of both only what lies inside the rim of the "
            "face mesh is kept, on black, so backgrounds do not count; pictures without a face stay as they are.",
            "Depth agreement and turn of samples need no search. Turn is the slope of the yaw that the face mesh shows "
            "over that of the samples' cameras: 1 of objects that turn as far as their cameras, less of flat ones that "
            "only seem to turn. On 200 rendered heads with their true depth the two are 0.88 and 1.02.",
            "Baseline: mean shape, one mean head for everybody, in the pose that the mesh shows. It knows the pose and "
            "nobody's face.",
            "Intervals are 95 % percentile intervals of a bootstrap over people (2,000 draws, the same for all rows), "
            "of the two columns of samples over these; that of KID is 1.96 standard errors to either side.",
        ]
        if self.n_invert:
            said.insert(
                3,
                f"The first {self.n_invert} photographs are inverted by zoo invert ({self.steps} steps at most). "
                "PSNR is over the pixels that belong to the object, and so is LPIPS (VGG). Identity is the distance of "
                "face embeddings (with zoo3d[identity]) "
                "between photograph and reconstruction; turned, between photograph and the reconstruction at yaws of "
                f"-{self.reach:g} and {self.reach:g} degrees. Below 0.6 two pictures are taken for one person. "
                "Turn error is the mean difference between these yaws and those that the face mesh shows on both "
                "views, where it finds a face: an object that does not turn with its camera is off by all of them. "
                "Depth, yaw and pitch of a method without an encoder are those of its inversions, whose search is told "
                "the mesh's pose and holds the camera near it; of how the object turns it is told nothing.",
            )
        if self.n_tune:
            said.insert(
                4,
                f"To the first {self.n_tune} of them a copy of the generator is tuned afterwards (zoo invert --tune) "
                "and measured again; methods with an encoder are not tuned.",
            )
        return said
