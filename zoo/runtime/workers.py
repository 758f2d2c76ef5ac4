"""Threads for work that torch cannot share out by itself, each on one core; and a GPU that nobody waits for."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext

import torch

_NAME = "zoo-worker"
_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None  # number of threads, the threads


def spread(tasks: Sequence[Callable[[], None]]) -> None:
    """Run independent tasks on as many threads as torch may use, and return when all are done.

    After Ctrl-C, or once a task has raised, those that have not begun are left out; those that have are waited for.

    Args:
        tasks: Are called once each, in any order. They should spend most of their time without Python's lock.

    Raises:
        Exception: Is the first that a task raised, in the order of the tasks.
    """
    threads = torch.get_num_threads()
    if len(tasks) < 2 or alone():
        for task in tasks:
            task()
        return
    futures: list[Future[None]] = []
    try:
        pool = _threads(threads)
        for task in tasks:
            futures.append(pool.submit(task))
    except RuntimeError:  # no thread may start: Python is shutting down, or there are too many
        for task in tasks[len(futures) :]:
            task()
    try:
        for future in futures:
            future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        wait(futures)
        raise


def alone() -> bool:
    """Whether `spread` would run all tasks on this thread, one after the other."""
    return torch.get_num_threads() < 2 or threading.current_thread().name.startswith(_NAME)


def accelerator_of(name: str) -> str:
    """Lightning's name of the device that `trainer.accelerator` asks for; "auto" takes a GPU of CUDA, else the CPU.

    Lightning itself would take a GPU of Apple's, also for "gpu", which lacks float64 and has no rasterizer here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if name == "gpu" else name


def outside_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Leaves autocast: half precision has steps of 0.4 %, which is coarser than the relief of a face."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device, without waiting for what that does."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _forget() -> None:
    """Have a forked child, which has none of its parent's threads, make its own."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()  # another thread of the parent may have held the lock


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)


def _threads(n: int) -> ThreadPoolExecutor:
    """The pool of this process."""
    global _pool
    with _lock:
        if _pool is None or _pool[0] != n:
            # A thread's number of threads is its own, but setting it also tells torch what new threads and the caller
            # shall have, so the caller sets that again when all are there.
            pool = ThreadPoolExecutor(n, _NAME, initializer=_use_one_core)
            all_there = threading.Barrier(n + 1)
            try:
                for _ in range(n):
                    pool.submit(all_there.wait)
                all_there.wait()
            finally:
                all_there.abort()  # those that wait for more than there will be
                torch.set_num_threads(n)
            _pool = n, pool
        return _pool[1]


def _use_one_core() -> None:
    torch.get_num_threads()  # torch reads the common number when a thread first asks, and must not do so later
    torch.set_num_threads(1)
