"""`FiLMSiren` computed tile by tile against its plain definition, and the threads that share out the tiles."""

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.networks.sines import fused, kernels, passes, tiles
from zoo.networks.sines.fused import evaluate
from zoo.networks.siren import FiLMSiren
from zoo.renderers.fields.volume import FieldOut
from zoo.runtime import workers

CASES = {
    "published shape": (32, 5, 4, 0, True, True),
    "light, no direction": (48, 3, 3, 4, False, True),
    "without gradient": (16, 2, 2, 0, True, False),
    "one layer": (16, 1, 3, 4, True, True),
    "wide": (256, 2, 1, 0, True, True),
    # No multiples of `products.LANES`, so by torch's operations.
    "odd width": (24, 3, 2, 4, True, True),
    "one layer, odd width": (13, 1, 9, 4, True, True),
}
M = 50


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_TILE_ELEMENTS", 16 * 13)  # several tiles and parts, the last ones not full
    monkeypatch.setattr(passes, "_TILE_ELEMENTS", 16 * 13)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(case: str, plain: bool, dtype: torch.dtype = torch.float32) -> tuple[FieldOut, list[Tensor]]:
    """What the field gives, and the gradients of a weighted sum of it by all inputs and parameters."""
    width, layers, b, extra, directed, with_gradient = CASES[case]
    source = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    siren = FiLMSiren(8, width, layers, 8, 0.24, extra, directed).to(dtype)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source).to(dtype)

    inputs = [(draw(b, M, 3) * 0.05), draw(b, 2 * siren.width) * 0.3]
    inputs += [draw(b, M, 3)] if directed else []
    inputs += [draw(b, extra)] if extra else []
    inputs = [x.requires_grad_() for x in inputs]
    points, film, *others = inputs
    field = siren.plain if plain else siren.forward
    out = field(points, film, others[0] if directed else None, others[-1] if extra else None, with_gradient)
    loss = torch.stack([(value * draw(*value.shape)).sum() for value in out if value is not None]).sum()
    own = [p for name, p in siren.named_parameters() if "mapping" not in name]
    return out, list(torch.autograd.grad(loss, [*inputs, *own]))


def apart(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).detach())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kept", [0, 2**28])
def test_values_and_gradients_are_those_of_the_definition(
    case: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_KEPT_ELEMENTS", kept)
    out, grads = run(case, plain=False)
    exact, exact_grads = run(case, plain=True, dtype=torch.float64)
    assert [x is None for x in out] == [x is None for x in exact]
    for value, truth in zip([*out, *grads], [*exact, *exact_grads], strict=True):
        if value is not None and truth is not None:
            assert value.shape == truth.shape
            assert apart(value, truth) < 1e-5


def test_density_alone_is_the_same() -> None:
    siren = FiLMSiren(8, 16, 3, 8)
    points, film = torch.rand(2, M, 3) * 0.1, torch.randn(2, 2 * siren.width)
    directions = torch.zeros_like(points)
    expected = siren.plain(points, film, directions, None, False).sigma
    assert apart(siren.sigma(points, film), expected) < 1e-5


def test_directions_that_colour_does_not_depend_on_change_nothing() -> None:
    siren = FiLMSiren(8, 32, 2, 8, use_direction=False)
    points, film = torch.rand(1, M, 3) * 0.1, torch.randn(1, 2 * siren.width)
    results = []
    for directions in (None, torch.rand(1, M, 3)):
        moved = points.clone().requires_grad_()
        out = evaluate(*siren.fused(film, None), moved, directions)
        assert out.logits is not None
        results.append([out.sigma, out.logits, *torch.autograd.grad(out.logits.sum(), moved)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_kept_products_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    results = []
    for kept, n in ((0, 1), (0, 3), (2**28, 1), (2**28, 3), (2**28, 2)):
        monkeypatch.setattr(fused, "_KEPT_ELEMENTS", kept)
        torch.set_num_threads(n)
        out, grads = run("published shape", plain=False)
        results.append([x for x in [*out, *grads] if x is not None])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_of_a_program_do_not_disturb_each_other(threads: None) -> None:
    torch.set_num_threads(2)
    siren = FiLMSiren(8, 32, 3, 8)
    points, film = torch.rand(4, M, 3) * 0.1, torch.randn(4, 2 * siren.width)

    def once(_: int) -> Tensor:
        return siren(points, film, points, None, with_gradient=True).rgb.detach()

    alone = once(0)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(alone, other) for other in pool.map(once, range(16)))


def test_nothing_is_kept_that_grows_with_layers_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    monkeypatch.setattr(fused, "_KEPT_ELEMENTS", 0)
    siren = FiLMSiren(8, 32, 6, 8, use_direction=False)
    points, film = torch.rand(1, 1000, 3), torch.randn(1, 2 * siren.width)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        evaluate(*siren.fused(film, None), points)
    assert max(kept) == points.numel()


@pytest.mark.parametrize("counts", [None, [M, 20]])
def test_second_derivatives_are_those_of_the_definition(counts: list[int] | None) -> None:
    torch.manual_seed(0)
    siren = FiLMSiren(8, 16, 3, 8)
    points, directions, film = torch.rand(2, M, 3) * 0.1, torch.rand(2, M, 3), torch.randn(2, 2 * siren.width) * 0.3
    inside = torch.arange(M) < torch.tensor(counts or [M, M])[:, None]
    weights = [torch.randn(2, M, n) * inside[..., None] for n in (3, 1, 3)]

    def second(siren: FiLMSiren, plain: bool) -> list[Tensor]:
        dtype = next(siren.parameters()).dtype
        code, at = film.to(dtype).requires_grad_(), points.to(dtype).requires_grad_()
        args = at, code, directions.to(dtype), None, True
        out = siren.plain(*args) if plain else siren(*args, counts)
        loss = torch.stack([(v * w.to(dtype)).sum() for v, w in zip(out, weights, strict=True) if v is not None]).sum()
        slopes = torch.autograd.grad(loss, [code, at], create_graph=True)
        length = torch.stack([slope.square().sum().sqrt() for slope in slopes]).sum()
        own = [p for name, p in siren.named_parameters() if "mapping" not in name and name.endswith("weight")]
        return list(torch.autograd.grad(length, [code, at, *own]))

    found = second(siren, plain=False)
    for some, truth in zip(found, second(deepcopy(siren).double(), plain=True), strict=True):
        assert truth.any()
        assert apart(some, truth) < 1e-4


def test_many_gradients_at_once_and_checkpoints() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(2, M, 3) * 0.1, torch.randn(2, 2 * siren.width, requires_grad=True)

    def field(code: Tensor) -> Tensor:
        out: Tensor = siren(points, code, points, None).rgb
        return out

    sums = field(film).sum((1, 2))
    (both,) = torch.autograd.grad(sums, film, torch.eye(2), is_grads_batched=True, retain_graph=True)
    (first,) = torch.autograd.grad(sums[0], film)
    assert apart(both[0], first) < 1e-5
    again = checkpoint(field, film, use_reentrant=False)
    assert isinstance(again, Tensor)
    assert torch.equal(torch.autograd.grad(again[0].sum(), film)[0], first)


@pytest.mark.parametrize("kept", [0, 2**28])
def test_what_changes_before_the_backward_pass_is_refused_or_does_not_matter(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_KEPT_ELEMENTS", kept)
    siren = FiLMSiren(8, 16, 3, 8)
    points, film = torch.rand(1, M, 3) * 0.1, torch.randn(1, 2 * siren.width, requires_grad=True)
    total = siren(points, film, points, None).rgb.sum()
    (before,) = torch.autograd.grad(total, film, retain_graph=True)
    with torch.no_grad():
        film += 1
    assert torch.equal(torch.autograd.grad(total, film, retain_graph=True)[0], before)
    fixed = siren(points.requires_grad_(), film.detach(), points, None).rgb.sum()
    with torch.no_grad():
        next(iter(siren.network[1].parameters())).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(fixed, points)


@pytest.mark.parametrize(("b", "codes"), [(3, 1), (1, 3), (0, 0)])
def test_one_code_serves_all_points_and_the_other_way_round(b: int, codes: int) -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(b, M, 3) * 0.1, torch.randn(codes, 2 * siren.width, requires_grad=True)
    directions = torch.rand(max(b, codes), M, 3)
    out, expected = siren(points, film, directions, None), siren.plain(points, film, directions, None, False)
    assert out.rgb.shape == expected.rgb.shape
    assert torch.allclose(out.rgb, expected.rgb, atol=1e-5)
    assert siren.sigma(points, film).shape == expected.sigma.shape
    out.rgb.sum().backward()
    assert film.grad is not None
    assert film.grad.shape == film.shape


def test_missing_values_of_colour_are_refused() -> None:
    siren = FiLMSiren(8, 16, 2, 8, extra=4)
    points = torch.rand(1, M, 3)
    with pytest.raises(ValueError, match="4 more values: give `extra`"):
        siren(points, torch.randn(1, 2 * siren.width), points, None)


def test_directions_in_half_precision_are_taken() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(1, M, 3) * 0.1, torch.randn(1, 2 * siren.width)
    towards = torch.rand(1, M, 3).bfloat16()  # as autocast makes them
    assert torch.equal(siren(points, film, towards, None).rgb, siren(points, film, towards.float(), None).rgb)


def test_the_default_type_and_device_change_nothing() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(1, M, 3), torch.randn(1, 2 * siren.width)

    def fresh() -> None:
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                siren(points, film, points, None, True).rgb.sum().backward()
        finally:
            torch.set_default_dtype(torch.float32)

    with ThreadPoolExecutor(1) as pool:  # with memory of its own
        pool.submit(fresh).result()


def test_changed_layers_are_computed_as_they_are() -> None:
    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1.5

    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(1, M, 3) * 0.1, torch.randn(1, 2 * siren.width)
    assert siren.fuses
    seen: list[int] = []
    hook = siren.network[1].layer.register_forward_hook(lambda *_: seen.append(1))
    siren(points, film, points, None)
    siren.sigma(points, film)
    hook.remove()
    assert seen == [1, 1]
    assert siren.fuses
    quantised = torch.ao.quantization.quantize_dynamic(deepcopy(siren), {nn.Linear})
    assert quantised(points, film, points, None).rgb.isfinite().all()
    siren.color_layer_sine.layer.__class__ = Adapted
    expected = siren.plain(points, film, points, None, False).rgb
    assert torch.equal(siren(points, film, points, None).rgb, expected)


def test_function_transforms_and_traces_look_into_the_field() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(2, M, 3) * 0.1, torch.randn(2, 2 * siren.width, requires_grad=True)

    def total(code: Tensor) -> Tensor:
        out: Tensor = siren(points, code, points, None).rgb.sum()
        return out

    total(film).backward()
    assert film.grad is not None
    assert apart(torch.func.grad(total)(film.detach()), film.grad) < 1e-5
    siren.requires_grad_(False)
    traced = torch.jit.trace(total, (film.detach(),), check_trace=False)
    assert torch.allclose(traced(film + 1), total(film + 1))


def test_points_that_vary_in_number_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    siren = FiLMSiren(8, 16, 2, 8).double()  # as on a GPU, where no kernel is for it
    points, film = torch.rand(2, M, 3).double(), torch.randn(2, 2 * siren.width).double()
    expected = siren(points, film, points, None).rgb
    monkeypatch.setattr(siren, "plain", None)
    assert torch.equal(siren(points, film, points, None, counts=[M, M]).rgb, expected)


def test_no_points_give_nothing_and_zero_gradients() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    film = torch.randn(2, 2 * siren.width, requires_grad=True)
    none = torch.zeros(2, 0, 3)
    out = siren(none, film, none, None, with_gradient=True)
    assert [tuple(v.shape) for v in out] == [(2, 0, 3), (2, 0, 1), (2, 0, 3)]
    sum(v.sum() for v in out).backward()
    assert film.grad is not None
    assert not film.grad.any()


def test_points_after_the_counts_are_left_out_both_ways() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    film, directions = torch.randn(2, 2 * siren.width), torch.rand(2, M, 3)
    points = (torch.rand(2, M, 3) * 0.1).requires_grad_()
    counts = [M, 20]
    out = siren(points, film, directions, None, True, counts)
    everything = siren(points, film, directions, None, True)
    for some, value in zip(out, everything, strict=True):
        assert some is not None
        assert value is not None
        assert torch.equal(some[0], value[0])
        assert torch.allclose(some[1, :20], value[1, :20], rtol=1e-4, atol=1e-4)
    (some,) = torch.autograd.grad(out.sigma[0].sum() + out.sigma[1, :20].sum(), points)
    (value,) = torch.autograd.grad(everything.sigma[0].sum() + everything.sigma[1, :20].sum(), points)
    assert apart(some, value) < 1e-5
    assert not some[1, 20:].any()


def test_it_works_in_inference_mode_and_by_turns() -> None:
    siren = FiLMSiren(8, 16, 2, 8)
    points, film = torch.rand(2, M, 3), torch.randn(2, 2 * siren.width)
    first = siren(points, film, points, None)
    with torch.inference_mode():
        second = siren(points, film, points, None)
    siren(points, film, points, None).rgb.sum().backward()
    assert torch.equal(first.rgb, second.rgb)


@pytest.mark.parametrize("reach", [1.0, 200.0, 1e5])
def test_sines_and_cosines_are_within_two_roundings(reach: float) -> None:
    x = np.random.default_rng(0).uniform(-reach, reach, (100, 64)).astype(np.float32)
    sines, cosines, alone = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    none, one = np.zeros(64, np.float32), np.ones(64, np.float32)
    kernels.sine_cosine(x, one, none, one, sines, cosines)
    kernels.sine(x, one, none, alone)
    assert np.array_equal(alone, sines)
    assert np.abs(sines - np.sin(x.astype(np.float64))).max() < 1.3e-7
    assert np.abs(cosines - np.cos(x.astype(np.float64))).max() < 1.3e-7


def test_what_is_not_finite_stays_visible() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 0.0]], np.float32)
    out = np.empty_like(x)
    kernels.sine(x, np.ones(4, np.float32), np.zeros(4, np.float32), out)
    assert np.isnan(out[0, :3]).all()
    assert out[0, 3] == 0


def test_sines_of_huge_angles_are_bounded() -> None:
    x = np.array([[1e7, 3e7, 1e8, 1e12, 1e30, -3e38]], np.float32)
    sines, cosines, one = np.empty_like(x), np.empty_like(x), np.ones(6, np.float32)
    kernels.sine_cosine(x, one, np.zeros(6, np.float32), one, sines, cosines)
    assert np.abs([sines, cosines]).max() <= 1


# ---------------------------------------------------------------- threads


def test_workers_use_one_core_each_and_leave_the_callers_number(threads: None) -> None:
    torch.set_num_threads(3)
    seen: list[tuple[str, int]] = []
    all_busy = threading.Barrier(3)

    def task() -> None:
        all_busy.wait(timeout=60)
        torch.ones(300, 300).mm(torch.ones(300, 300))
        seen.append((threading.current_thread().name, torch.get_num_threads()))

    workers.spread([task] * 3)
    assert len({name for name, _ in seen}) == 3
    assert {n for _, n in seen} == {1}
    assert torch.get_num_threads() == 3


def test_an_error_in_a_worker_reaches_the_caller(threads: None) -> None:
    torch.set_num_threads(2)

    def fail() -> None:
        raise ValueError("from a worker")

    with pytest.raises(ValueError, match="from a worker"):
        workers.spread([fail, lambda: None])


def test_after_an_error_nothing_more_begins_and_nothing_goes_on(threads: None) -> None:
    torch.set_num_threads(2)
    begun: list[int] = []
    ended: list[int] = []

    def fail() -> None:
        raise ValueError("from a worker")

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.2)
        ended.append(number)

    with pytest.raises(ValueError, match="from a worker"):
        workers.spread([fail, *(partial(slow, number) for number in range(8))])
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 8
    time.sleep(0.3)
    assert sorted(begun) == sorted(ended)


def test_a_forked_process_makes_its_own_threads(threads: None) -> None:
    torch.set_num_threads(2)
    workers.spread([lambda: None] * 2)

    def child(answer: "multiprocessing.Queue[int]") -> None:
        done: list[int] = []
        workers.spread([lambda: done.append(1)] * 2)
        answer.put(len(done))

    context = multiprocessing.get_context("fork")
    answer: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=child, args=(answer,))
    process.start()
    assert answer.get(timeout=60) == 2
    process.join(60)


def test_a_process_that_is_forked_while_threads_are_made_does_not_wait_for_them(threads: None) -> None:
    torch.set_num_threads(2)
    context = multiprocessing.get_context("fork")
    done = context.Event()

    def child() -> None:
        workers.spread([lambda: None] * 2)
        done.set()

    process = context.Process(target=child, daemon=True)
    with workers._lock:  # as another thread would hold it
        process.start()
    assert done.wait(60)
    process.join(60)


@pytest.mark.parametrize("before", ["workers.spread([lambda: None] * 2)", ""])
def test_a_thread_that_outlives_the_main_one_still_works(before: str) -> None:
    code = f"""
import threading
import torch
from zoo.runtime import workers
torch.set_num_threads(2)
{before}
def late():
    threading.main_thread().join()
    workers.spread([lambda: print("done")] * 2)
threading.Thread(target=late).start()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["done", "done"], result.stderr


def test_threads_that_cannot_all_be_made_are_let_go(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    monkeypatch.setattr(workers, "_pool", None)
    submit = ThreadPoolExecutor.submit
    made: list[Any] = []

    def one_only(self: ThreadPoolExecutor, *args: Any) -> Any:
        if made:
            raise RuntimeError("can't start new thread")
        made.append(submit(self, *args))
        return made[0]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", one_only)
    done: list[int] = []
    workers.spread([lambda: done.append(1)] * 4)
    assert len(done) == 4
    assert made[0].exception(timeout=60) is not None
    assert torch.get_num_threads() == 3
