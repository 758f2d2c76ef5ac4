"""Damaged and hostile files for every reader: `python -m tests.campaigns.hostile [--cases N] [--seed S]`.

Each case is read in this process, with a watchdog. What may come out is a value, or a ZooError, ValueError or OSError.
Anything else is a crash; more than 5 seconds a hang; a process that grows by more than 1 GB beyond the file too much
memory; and a file that only its code could have made shows that code was run. A case can be had again by its seed.
"""

import argparse
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

from zoo.errors import ZooError

from .readers import Reader, readers

SECONDS, MEMORY = 5, 2**30
FAILURES = ("crashes", "hangs", "memory", "code executed")


class Hang(BaseException):
    """The watchdog barked."""


def _bark(*_: int | FrameType | None) -> None:
    raise Hang


def attempt(reader: Reader, place: Path, canary: Path, seed: str) -> tuple[str, str]:
    """Read one damaged file; "refused", "read" or the kind of failure, and what happened."""
    reader.write(place, random.Random(seed))
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    kind, what = "read", ""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        reader.read(place)
    except (ZooError, ValueError, OSError):
        kind = "refused"
    except Hang:
        kind = "hangs"
    except MemoryError as error:
        kind, what = "memory", repr(error)[:200]
    except Exception as error:
        kind, what = "crashes", repr(error)[:200]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if time.process_time() - start > SECONDS:
        kind = kind if kind in FAILURES else "hangs"
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > MEMORY + size:
        kind = "memory"
    if canary.exists():
        canary.unlink()
        kind = "code executed"
    return kind, what


def campaign(cases: int, seed: int) -> dict[str, Counter[str]]:
    """Failures by reader; each reader has its share of the cases."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _bark)
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        canary, place = work / "CANARY", work / "case"
        known = list(readers(work, canary))
        for name, reader in known:
            counts[name] = Counter()
            for number in range(-(-cases // len(known))):
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                own = f"{seed}/{name}/{number}"
                kind, what = attempt(reader, place, canary, own)
                counts[name].update({"cases": 1, kind: 1})
                if kind in FAILURES:
                    print(f"{kind}: seed {own}: {what}", file=sys.stderr, flush=True)
    return counts


def main() -> int:
    """Print the table; 1 if there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    counts = campaign(options.cases, options.seed)
    total = sum(counts.values(), Counter())
    columns = ("cases", "refused", "read", *FAILURES)
    print("| reader | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in (*counts.items(), ("all", total)):
        print(f"| {name} | " + " | ".join(str(row[column]) for column in columns) + " |")
    print(f"seed {options.seed}, {time.monotonic() - start:.0f} s")
    return int(any(total[kind] for kind in FAILURES))


if __name__ == "__main__":
    sys.exit(main())
