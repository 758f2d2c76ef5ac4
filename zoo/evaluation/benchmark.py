"""What a benchmark is: test data under a protocol with a name, rows of figures, columns that show them, and words."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from ..fitting.runs import FinishedRun
from ..generators.base import Generator
from ..output.strips import Sheet
from ..output.tables import Published
from ..runtime.progress import Steps

Subject = str | Generator | FinishedRun | Callable[..., Any]  # what gets a row; a string is the name of a baseline
Figure = float | str | Sequence[float] | Sequence[str] | None
Kind = Literal["baseline", "model"]
Pictures = Callable[[], list[Sheet]]  # draws the sheets of a row: only those who look at them pay for them


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: What the line is called.
        kind: Whether it shows a baseline or a model.
        protocol: Name of the protocol; figures of different protocols do not compare.
        n: Number of test images, faces or pictures behind the figures.
        figures: By name and in the units of their columns' documentation. SIDE is in units of 1e-2, angles are in
            degrees. None stands for a figure that the subject does not have.
        seconds: Wall time; None where it was not measured.
        notes: What a reader must know, for example that images were skipped.
        intervals: The 95 % intervals (low, high) of some of the figures.
        samples: What figures are made of, one row for each person, as `zoo.evaluation.statistics` takes it; rows with
            samples can be compared in pairs.
        probes: Figures by each of the networks that were trained for them, where they are means over several.
        made: How, when and where the row was measured, for rows that come from disk.
    """

    name: str
    kind: Kind
    protocol: str
    n: int
    figures: Mapping[str, Figure]
    seconds: float | None = None
    notes: Sequence[str] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    probes: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    made: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The row as plain values for JSON, figures beside the rest."""
        own = {"name": self.name, "kind": self.kind, "protocol": self.protocol, "n": self.n}
        rest = {"seconds": self.seconds, "notes": "; ".join(self.notes)}
        intervals = {"intervals": {key: list(ends) for key, ends in self.intervals.items()}} if self.intervals else {}
        return {**own, **self.figures, **rest, **intervals}


@dataclass(frozen=True)
class Column:
    """How a figure of every row is shown.

    Attributes:
        key: Name of the figure in `Row.as_dict`.
        title: Heading without its unit.
        unit: Stands behind the title.
        better: Which way is better, if one is.
        form: Format of each number.
        scale: Factor between the figure and what is printed.
        spread: Name of the figure that stands behind a plus-minus sign.
        main: Whether the terminal shows it; pages and JSON have all columns.
    """

    key: str
    title: str
    unit: str = ""
    better: Literal["lower", "higher", ""] = ""
    form: str = ".3f"
    scale: float = 1
    spread: str = ""
    main: bool = True

    @property
    def heading(self) -> str:
        """Title, unit, and an arrow that points where figures are better."""
        arrow = {"lower": "\N{NO-BREAK SPACE}↓", "higher": "\N{NO-BREAK SPACE}↑", "": ""}[self.better]
        return f"{self.title} {self.unit}".strip() + arrow

    def cell(self, values: Mapping[str, Any]) -> str:
        """The text of one row's cell: half the 95 % interval stands behind a plus-minus sign, if there is one.

        Stages are joined by arrows, and what is missing is empty.
        """
        value, spread = values.get(self.key), values.get(self.spread)
        if value is None or isinstance(value, str):
            return value or ""
        if ends := values.get("intervals", {}).get(self.key):
            spread = (ends[1] - ends[0]) / 2
        parts = value if isinstance(value, Sequence) else [value]
        text = " → ".join(part if isinstance(part, str) else f"{self.scale * part:{self.form}}" for part in parts)
        return text if spread is None else f"{text} ± {self.scale * spread:{self.form.lstrip('+')}}"


@dataclass(frozen=True)
class Options:
    """How a benchmark is opened.

    Attributes:
        quick: Take fewer images and steps for a look in seconds; the protocol's name says so.
        seed: Seed of latents, searches and the networks that are trained on the way.
        progress: Show progress bars.
        settings: The benchmark's own, by Python keyword, as `benchmarks.parse` gives them.
    """

    quick: bool = False
    seed: int = 0
    progress: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


class Benchmark(ABC):
    """A protocol, its data, and what is to be measured. Every command knows those in `zoo/evaluation/benchmarks/`.

    Attributes:
        title: Headline of the page.
        baselines: Names of the rows that stand in every comparison; `row` is given such a name as its subject.
        unseeded: Names of the baselines whose rows no seed changes; they are measured once.
        takes_runs: Whether folders of `zoo run` can be subjects.
        weights: Shipped weights that are compared when no names are given, as a pattern of names; `suits` narrows it.
        columns: What tables show, from left to right; columns without any figure are left out.
        bar: Key of the column that bars show.
        bar_caption: What the table's caption says of bars and figures.
        published: Figures of others that are shown in a table of their own.
        extras: By name of each optional extra that some columns need: whether it is installed. Rows in which figures
            are left out for lack of it have a note that names `zoo3d[NAME]`.
        protocol: Name of the protocol, with every departure from it.
        subjects: Maps row names to what is measured, in the order of the rows. One given subject may become several.
        options: How it was opened.
    """

    title: ClassVar[str]
    baselines: ClassVar[tuple[str, ...]] = ()
    unseeded: ClassVar[tuple[str, ...]] = ()
    takes_runs: ClassVar[bool] = False
    weights: ClassVar[str] = "*"
    bar: ClassVar[str]
    bar_caption: ClassVar[str]
    published: ClassVar[Published | None] = None
    extras: ClassVar[Mapping[str, Callable[[], bool]]] = {}
    subjects: Mapping[str, Subject]
    options: Options

    @classmethod
    @abstractmethod
    def open(cls, subjects: Mapping[str, Subject], options: Options) -> Self:
        """Read the data, and refuse subjects that cannot be measured before any long work begins.

        Args:
            subjects: Maps row names to subjects.
            options: How to open the benchmark.

        Raises:
            ConfigError: A subject or a setting cannot be used.
            DataError: Data is missing or unreadable.
        """

    @classmethod
    def suits(cls, method: type[Generator]) -> bool:
        """Whether trained weights of a method are compared when no names are given."""
        return True

    @property
    @abstractmethod
    def protocol(self) -> str: ...

    @property
    def data(self) -> str | None:
        """What tells the data apart from that of the same protocol elsewhere; rows of None are not kept on disk."""
        return None

    def key(self, name: str) -> str | None:
        """What a row is known by on disk, where its subject itself does not say (`zoo.evaluation.store.key_of`)."""
        return None

    @property
    @abstractmethod
    def columns(self) -> Sequence[Column]: ...

    @abstractmethod
    def row(self, name: str, subject: Subject, steps: Steps) -> tuple[Row, Pictures]:
        """Measure one of `subjects`, and offer pictures of it.

        Args:
            name: What the row is called.
            subject: What is measured.
            steps: Where progress is shown.
        """

    def ranked(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with what only all of them together can say, such as ranks."""
        return list(rows)

    @abstractmethod
    def words(self) -> list[str]:
        """The protocol in sentences, for people."""

    @abstractmethod
    def lead(self, rows: Sequence[Row]) -> str:
        """What the page says first, as HTML: names are escaped."""

    def shown(self, rows: Sequence[Row]) -> list[Column]:
        """The columns that have a figure in at least one of the rows."""
        values = [row.as_dict() for row in rows]
        return [column for column in self.columns if any(column.cell(each) for each in values)]
