"""Threads for work that torch cannot share out by itself: each runs torch's operations on one core."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_NAME = "zoo-worker"
_lock = threading.Lock()
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, number of threads, the threads


def spread(tasks: Sequence[Callable[[], None]]) -> None:
    """Run independent tasks on as many threads as torch may use, and return when all are done.

    Args:
        tasks: Are called once each, in any order. They should spend most of their time without Python's lock.

    Raises:
        Exception: Is the first that a task raised, in the order of the tasks.
    """
    threads = torch.get_num_threads()
    if threads < 2 or len(tasks) < 2 or threading.current_thread().name.startswith(_NAME):
        for task in tasks:
            task()
        return
    for future in [_threads(threads).submit(task) for task in tasks]:
        future.result()


def _threads(n: int) -> ThreadPoolExecutor:
    """The pool of this process: a forked child has none of its parent's threads, and makes its own."""
    global _pool
    with _lock:
        if _pool is None or _pool[:2] != (os.getpid(), n):
            # A thread's number of threads is its own, but setting it also tells torch what new threads and the caller
            # shall have, so the caller sets that again when all are there.
            pool = ThreadPoolExecutor(n, _NAME, initializer=_use_one_core)
            all_there = threading.Barrier(n + 1)
            for _ in range(n):
                pool.submit(all_there.wait)
            all_there.wait()
            torch.set_num_threads(n)
            _pool = os.getpid(), n, pool
        return _pool[2]


def _use_one_core() -> None:
    torch.get_num_threads()  # torch reads the common number when a thread first asks, and must not do so later
    torch.set_num_threads(1)
