"""The loaded model of a worker: lent, kept, exchanged, given up; and which options an engine takes."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from overproof.inference import shelf as shelf_module
from overproof.inference.adapters.engines import validate
from overproof.inference.ports import Completion, Request
from overproof.inference.shelf import Shelf
from overproof.shared.errors import EngineUnavailable, ModelError, Stopped
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling

HAS_VLLM = importlib.util.find_spec("vllm") is not None


class Recorder:
    """An engine that only remembers whether it was closed."""

    places = 4

    def __init__(self, *, holds_gpu: bool = True) -> None:
        self.closed = False
        self.holds_gpu = holds_gpu

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        return iter(())

    def close(self) -> None:
        self.closed = True


def nothing() -> None:
    pass


def test_engine_is_loaded_once_for_one_model() -> None:
    shelf, loads = Shelf(), list[Recorder]()
    for _ in range(3):
        with shelf.lend("a", lambda: (loads.append(Recorder()), loads[-1])[1], nothing) as lent:
            assert lent.engine is loads[0]
    assert len(loads) == 1
    assert not loads[0].closed


def test_other_model_closes_the_first_before_it_loads() -> None:
    shelf, first = Shelf(), Recorder()
    with shelf.lend("a", lambda: first, nothing):
        pass

    def load() -> Recorder:
        assert first.closed
        return Recorder()

    with shelf.lend("b", load, nothing) as lent:
        assert lent.engine is not first


def test_two_shards_of_one_model_share_the_engine_and_another_model_waits() -> None:
    shelf, first, second = Shelf(), Recorder(), Recorder()
    order: list[str] = []

    def other() -> None:
        with shelf.lend("b", lambda: second, nothing):
            order.append("b")

    with shelf.lend("a", lambda: first, nothing), shelf.lend("a", Recorder, nothing) as again:
        assert again.engine is first
        assert again.load_seconds == 0
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        order.append("a")
    thread.join(timeout=10)
    assert order == ["a", "b"]
    assert first.closed


def test_model_that_has_waited_long_comes_before_further_shards_of_the_loaded_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shelf, order, release = Shelf(), list[str](), threading.Event()

    def use(key: str, name: str) -> None:
        with shelf.lend(key, Recorder, nothing):
            order.append(name)
            assert release.wait(timeout=30)

    def start(name: str, *, waits: bool) -> threading.Thread:
        before = len(shelf._waiting) if waits else len(order)
        thread = threading.Thread(target=use, args=(name[0], name))
        thread.start()
        until(lambda: len(shelf._waiting if waits else order) > before)
        return thread

    threads = [start("a1", waits=False), start("b1", waits=True), start("a2", waits=False)]
    monkeypatch.setattr(shelf_module, "PATIENCE_SECONDS", 0.0)
    threads.append(start("a3", waits=True))
    release.set()
    for thread in threads:
        thread.join(timeout=30)
    assert order == ["a1", "a2", "b1", "a3"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_shard_can_be_stopped() -> None:
    shelf = Shelf()

    def stop() -> None:
        raise Stopped("now")

    with shelf.lend("a", Recorder, nothing), pytest.raises(Stopped), shelf.lend("b", Recorder, stop):
        pass


def test_dead_engine_is_not_lent_again() -> None:
    shelf, dead, fresh = Shelf(), Recorder(), Recorder()
    with pytest.raises(EngineUnavailable), shelf.lend("a", lambda: dead, nothing):
        raise EngineUnavailable("It died.")
    with shelf.lend("a", lambda: fresh, nothing) as lent:
        assert lent.engine is fresh
    assert dead.closed


def test_model_that_does_not_load_leaves_the_shelf_empty() -> None:
    shelf = Shelf()

    def broken() -> Recorder:
        raise ModelError("No weights.")

    with pytest.raises(ModelError), shelf.lend("a", broken, nothing):
        pass
    with shelf.lend("a", Recorder, nothing) as lent:
        assert isinstance(lent.engine, Recorder)


def use(shelf: Shelf, engine: Recorder) -> None:
    with shelf.lend("a", lambda: engine, nothing):
        pass


def test_idle_engine_on_a_gpu_is_closed_and_loaded_again_for_the_next_shard() -> None:
    shelf, first, second = Shelf(idle_seconds=0.05), Recorder(), Recorder()
    use(shelf, first)
    until(lambda: first.closed)
    with shelf.lend("a", lambda: second, nothing) as lent:
        assert lent.engine is second


@pytest.mark.parametrize(("idle_seconds", "holds_gpu"), [(0.0, True), (0.01, False)])
def test_idle_engine_is_kept_where_nobody_wants_its_memory(idle_seconds: float, holds_gpu: bool) -> None:
    shelf, engine = Shelf(idle_seconds), Recorder(holds_gpu=holds_gpu)
    use(shelf, engine)
    assert shelf._idle is None
    assert not engine.closed


def test_engine_in_use_is_never_closed() -> None:
    shelf, engine = Shelf(idle_seconds=0.01), Recorder()
    with shelf.lend("a", lambda: engine, nothing):
        use(shelf, engine)  # the first of two users leaves
        time.sleep(0.1)
        assert not engine.closed
    until(lambda: engine.closed)


def test_shard_that_comes_while_the_timer_rings_keeps_the_engine() -> None:
    shelf, engine = Shelf(idle_seconds=3600), Recorder()
    use(shelf, engine)
    rung = shelf._idle
    assert rung is not None
    with shelf.lend("a", Recorder, nothing) as lent:
        rung.function()
        assert lent.engine is engine
    rung.function()
    assert not engine.closed
    assert shelf._idle is not None
    shelf._idle.function()
    assert engine.closed


def test_shard_that_comes_while_an_idle_engine_closes_loads_again() -> None:
    closing, go_on = threading.Event(), threading.Event()

    class Slow(Recorder):
        def close(self) -> None:
            closing.set()
            assert go_on.wait(timeout=30)
            super().close()

    shelf, slow, fresh = Shelf(idle_seconds=0.01), Slow(), Recorder()
    use(shelf, slow)
    assert closing.wait(timeout=30)

    def load() -> Recorder:
        assert slow.closed
        return fresh

    def take() -> None:
        with shelf.lend("a", load, nothing):
            pass

    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: len(shelf._waiting) == 1)
    go_on.set()
    thread.join(timeout=30)
    assert shelf._engine is fresh


def test_room_is_made_when_the_old_engine_is_gone_and_a_shard_that_waits_for_it_can_be_stopped() -> None:
    shelf, first = Shelf(idle_seconds=3600), Recorder()
    use(shelf, first)

    def stop() -> None:
        assert first.closed
        raise Stopped("now")

    with pytest.raises(Stopped), shelf.lend("b", Recorder, nothing, stop):
        pass
    with shelf.lend("a", Recorder, nothing) as lent:
        assert lent.load_seconds > 0


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_missing_engine_is_named_with_the_way_to_install_it() -> None:
    with pytest.raises(ModelError, match="vllm engine is not installed") as caught:
        validate(EngineOptions(kind="vllm"))
    assert "overproof-inference[vllm]" in caught.value.remedy


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enforce_eagre": True}, "no engine argument enforce_eagre"),
        ({"trust_remote_code": True}, r"trust_remote_code could run code"),
        ({"worker_cls": "x.Y"}, r"worker_cls could run code"),
        ({"max_model_len": 5}, r"max_model_len is a field of its own"),
        ({"data_parallel_size": 2}, r"data_parallel_size takes other GPUs .* one inference worker per GPU"),
        ({"data_parallel_backend": "ray"}, r"data_parallel_backend takes other GPUs"),
        ({"pipeline_parallel_size": 2}, r"pipeline_parallel_size takes other GPUs .* engine.tensor_parallel_size"),
        ({"load_format": "pt"}, "load_format pt is not allowed"),
        ({"max_num_seqs": "many"}, r"max_num_seqs is 'many': it should be a valid integer"),
        ({"max_num_seqs": True}, r"max_num_seqs is True: it should be a valid integer"),
        ({"enforce_eager": 1}, r"enforce_eager is 1: it should be a valid boolean"),
        ({"kv_cache_dtype": "fp9"}, r"kv_cache_dtype is 'fp9': it should be 'auto'"),
        ({"compilation_config": "mode 0"}, r"compilation_config is no JSON object"),
        ({"compilation_config": '{"moed": 0}'}, r"compilation_config.moed"),
        ({"compilation_config": '{"custom_ops_path": "x"}'}, r"compilation_config sets custom_ops_path"),
        ({"speculative_config": '{"method": "eagle", "model": "x"}'}, r"speculative_config sets model"),
    ],
)
def test_vllm_options_are_checked_before_anything_loads(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        validate(EngineOptions(kind="vllm", options=options))


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_vllm_takes_its_own_arguments() -> None:
    speculation = '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}'
    further = {"attention_backend": "FLASH_ATTN", "cpu_offload_gb": 4, "compilation_config": '{"mode": 0}'}
    validate(EngineOptions(kind="vllm", options={"speculative_config": speculation, **further}))
    validate(EngineOptions(kind="vllm", options={"enforce_eager": True, "quantization": "fp8", "load_format": "dummy"}))
