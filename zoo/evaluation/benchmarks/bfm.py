"""Depth against Unsup3D's synface images on your disk: SIDE and MAD."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Self

from ...data.synface import SynfaceDataset
from ...errors import ConfigError
from ...output.tables import Published
from ...probes.depth import Pairs
from ...runtime.progress import Steps
from ..benchmark import Options, Pictures, Row, Subject
from ..depth.accuracy import Accuracy
from ..depth.benchmark import DepthBenchmark, pairs_of, spread
from ..depth.protocol import DepthProtocol
from ..store import digest_of

SETTINGS = {
    "data.root=DIR": "folder or zip in the layout of synface, which zoo data bfm writes; needed",
    "n_test=N": "number of test images",
    "n_pairs=N": "number of training pairs",
    "on_error=WORD": "stop at an image that cannot be read, or skip it, which the row says; default stop",
}


class BFM(DepthBenchmark):
    """The test of Unsup3D (Wu et al. 2020) on its own images."""

    standard = DepthProtocol("bfm-v1", fov=10.0)
    published = Published(
        "Wu et al. 2020, table 2: mean and standard deviation over test images, trained and tested by its authors.",
        "BFM, as published",
        ("Method", *(column.heading for column in Accuracy.columns)),
        (
            ("supervised", "0.410 ± 0.103", "10.78 ± 1.01"),
            ("constant depth", "2.723 ± 0.371", "43.34 ± 2.25"),
            ("average depth", "1.990 ± 0.556", "23.26 ± 2.85"),
            ("Unsup3D", "0.793 ± 0.140", "16.51 ± 1.56"),
        ),
    )

    @classmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        if not options.settings.get("data_root"):
            raise ConfigError(
                "benchmark 'bfm' reads Unsup3D's synface folder from disk: give data.root=DIR, in Python data_root "
                "(zoo data bfm --help: from your own file of the Basel Face Model)"
            )
        if (chosen := options.settings.get("on_error", "stop")) not in ("stop", "skip"):
            raise ConfigError(f"on_error={chosen}: use stop or skip")
        opened = super().open(subjects, options)
        _ = opened.test  # if something is missing, this fails before the long work
        return opened

    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        row, pictures = super().row(name, subject, steps)
        return replace(row, notes=[*row.notes, *self._few]), pictures

    def words(self) -> list[str]:
        return [*super().words(), *(f"This page has {note}." for note in self._few)]

    @property
    def _few(self) -> list[str]:
        n = len(self.test) if self.options.settings.get("data_root") else self.rules.n_test
        enough = self.standard.n_test
        return [] if n >= enough else [f"only {n} test image{'s' * (n > 1)}; below {enough}, figures are rough"]

    @cached_property
    def data(self) -> str | None:
        skips = self.options.settings.get("on_error") == "skip"
        return digest_of(self.options.settings["data_root"], "skip" if skips else None)

    def true_pairs(self, split: str, n: int) -> Pairs:
        settings = self.options.settings
        on_error = settings.get("on_error", "stop")
        images = SynfaceDataset(settings["data_root"], split=split, size=self.rules.size, on_error=on_error)
        items = images.items(spread(len(images), n))
        self.unread += [name for name in images.skipped if name not in self.unread]
        return pairs_of(items)
