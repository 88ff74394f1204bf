"""The streams of a segment in shards, and the processes that work them off.

Every shard is a group of streams with a gradient of its own; the gradients are added in the order
of the shards. How many shards there are belongs to the run, how many processes share them does
not: one process or many give the same bits.

Processes, not threads: the many short NumPy calls of a step hand Python's interpreter lock back
and forth, and two threads were measured to get no more done than one. Worker processes share
memory with this one; a few bytes through a pipe say what to do. Each shard begins with what lies
in shared memory and leaves there what it made, so any process can do any shard at any time:
workers join when they are ready, and where one is lost this process does its part too.

`python -m charlstm.training.shards` is a worker.
"""

import contextlib
import json
import math
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from charlstm.nn.arrays import CACHE_LINE, Array, DTypeLike, zeros
from charlstm.nn.dropout import KEEP_ALL, Draws, Drops
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape, State
from charlstm.nn.unrolled import Unrolled
from charlstm.scoring.held_out import HeldOut

try:
    import mmap
except ImportError:  # not on every system
    mmap = None  # type: ignore[assignment]

TRAIN, MEASURE, READY, DONE = b"t", b"m", b"r", b"d"


class Task(NamedTuple):
    """What a process does of a step: to `TRAIN` or to `MEASURE`, with the states of one of the two
    turns, every n-th shard from the `first`, the loss times `scale`, after so many steps."""

    kind: bytes
    turn: int
    first: int
    n: int
    scale: float
    step: int


MESSAGE = struct.Struct("<cBHHdQ")
"""The bytes of a `Task`."""

SPIN = 1e-3
"""Seconds for which a process looks for a message again and again before it sleeps: to be woken
would take a share of a short step."""

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


def cores() -> int:
    """Processor cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
    return os.cpu_count() or 1


def _read(pipe: int, size: int) -> bytes:
    """Wait for a message; nothing where the other side is gone. The pipe does not block."""
    end = time.perf_counter() + SPIN
    while time.perf_counter() < end:
        with contextlib.suppress(BlockingIOError):
            return os.read(pipe, size)
        os.sched_yield()  # type: ignore[attr-defined,unused-ignore]
    _readable(pipe, None)
    return os.read(pipe, size)


def _readable(pipe: int, milliseconds: int | None) -> bool:
    """Wait for so long, or without end, for a message or the end of the other side."""
    waiting = select.poll()  # type: ignore[attr-defined,unused-ignore]
    waiting.register(pipe, select.POLLIN)  # type: ignore[attr-defined,unused-ignore]
    return bool(waiting.poll(milliseconds))


@dataclass(frozen=True)
class Job:
    """What all processes must know beforehand: sizes, what is dropped, and the seed."""

    shape: Shape
    T: int  # steps of a segment
    B: int  # streams of all shards
    shards: int
    held_out: int = 0  # rows of held-out ids
    warm_up: int = 0  # of these, rows that only prepare the state
    first: bool = True  # whether the first of the held-out streams begins where the text does
    drops: Drops = KEEP_ALL
    seed: int = 0  # what the random numbers depend on (`Draws`), together with the step, …
    stream: int = 0  # … and the number of the first stream among those of all ranks

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The job of which `json.dumps(asdict(job))` made the text."""
        values = json.loads(text)
        shape, drops = Shape(**values.pop("shape")), Drops(**values.pop("drops"))
        return cls(shape, drops=drops, **values)

    def streams(self, k: int) -> slice:
        """The streams of shard k."""
        return slice(k * self.B // self.shards, (k + 1) * self.B // self.shards)

    def arrays(self, fd: int) -> dict[str, Array]:
        """The arrays in the memory of a file descriptor, or, if that is -1, in memory of this
        process alone; each at the beginning of a cache line."""
        B, P, states = self.B, self.shape.size, self.shape.states.items()
        layout: dict[str, tuple[DTypeLike, tuple[int, ...]]] = {
            "weights": (np.float32, (P,)),
            "measured": (np.float32, (P,)),
            **{f"gradient{k}": (np.float32, (P,)) for k in range(self.shards)},
            **{f"state{turn}.{s}": (np.float32, (B, H)) for turn in range(2) for s, H in states},
            "segment": (np.intp, (self.T + 1, B)),
            "nats": (np.float64, (self.shards,)),
            "held_out": (np.int32, (self.held_out, B)),
            "counted": (np.uint8, (max(0, self.held_out - self.warm_up - 1), B)),
        }
        places, end = [], 0
        for name, (dtype, shape) in layout.items():
            places.append((name, shape, dtype, end))
            size = math.prod(shape) * np.dtype(dtype).itemsize
            end += -(-size // CACHE_LINE) * CACHE_LINE
        if fd != -1:
            os.ftruncate(fd, end)  # in a worker it has this length already
        try:
            memory = zeros((end,), np.uint8) if mmap is None else mmap.mmap(fd, end)
        except OSError as e:
            raise MemoryError from e
        return {name: np.ndarray(shape, dtype, memory, at) for name, shape, dtype, at in places}


class Bench:
    """Where one process works on its shards, in buffers of its own."""

    def __init__(self, job: Job, arrays: dict[str, Array]) -> None:
        self.job = job
        self.arrays = a = arrays
        self.model = Model(job.shape, flat=a["weights"])
        self.measured = Model(job.shape, flat=a["measured"])  # whose held-out loss is asked for
        self.gradients = [self.model.weights.like(a[f"gradient{k}"]) for k in range(job.shards)]
        self.states: list[State] = [
            [a[f"state{turn}.{name}"] for name in job.shape.states] for turn in range(2)
        ]
        self.held_out = HeldOut(a["held_out"], a["counted"], job.first)
        self.unrolled: dict[int, Unrolled] = {}

    def run(self, task: Task) -> None:
        """Do the shards of a task."""
        for k in range(task.first, self.job.shards, task.n):
            streams = self.job.streams(k)
            B = streams.stop - streams.start
            if B not in self.unrolled:
                self.unrolled[B] = Unrolled(self.model, self.job.T, B, drops=self.job.drops)
            if task.kind == TRAIN:
                self._train(task, k, streams, self.unrolled[B])
            else:
                part, unrolled = self.held_out.part(streams), self.unrolled[B].over(self.measured)
                self.arrays["nats"][k] = part.nats(unrolled)

    def _train(self, task: Task, k: int, streams: slice, unrolled: Unrolled) -> None:
        """Write the gradient of scale * (sum of the nats) over shard k, its nats, and its state
        after."""
        ids = np.ascontiguousarray(self.arrays["segment"][:, streams])
        with np.errstate(over="ignore", invalid="ignore"):  # found, and reported, in training
            before = [s[streams] for s in self.states[task.turn]]
            draws = Draws(self.job.seed, task.step, self.job.stream + streams.start)
            after = unrolled.forward(ids[:-1], before, draws)
            nats, _ = unrolled.loss_and_gradient(ids[1:], self.gradients[k], task.scale)
            self.arrays["nats"][k] = np.sum(nats, dtype=np.float64)
        for s, new in zip(self.states[1 - task.turn], after, strict=True):
            s[streams] = new


class Worker:
    """A process that does shards, seen from outside."""

    def __init__(self, job: Job, fd: int) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.ready = False
        self.process = subprocess.Popen(
            # -P: a module in the folder where the user stands is none of ours
            [sys.executable, "-P", "-m", __name__, str(fd), json.dumps(asdict(job))],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[fd],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # a signal from the terminal is for the one who leads
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.back, False)  # type: ignore[attr-defined,unused-ignore]

    def send(self, task: Task) -> bool:
        """False where the worker is lost."""
        try:
            return os.write(self.to, MESSAGE.pack(*task)) == MESSAGE.size
        except OSError:
            return False

    def answers(self) -> bool:
        """Wait for an answer; False where the worker is lost."""
        return _read(self.back, 1) != b""

    def waits(self) -> bool:
        """Whether an answer, or the worker's end, can be read at once."""
        return _readable(self.back, 0)

    def end(self) -> None:
        """Close its pipes, upon which it ends, and kill it if it has not after a second."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _shared_memory() -> int:
    """A file descriptor of memory, or else of a file without a name, that a process can hand on."""
    if hasattr(os, "memfd_create"):
        memory: int = os.memfd_create("charlstm")
        return memory
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Shards:
    """The weights, states and gradients of a run in shared memory, and those who work on them.

    `weights` (P,) may be changed between two calls, and so may `state`, each (B, H).
    """

    def __init__(self, job: Job, workers: int, held_out: HeldOut | None = None) -> None:
        self.job, self.wanted = job, max(0, min(workers, job.shards) - 1)
        self.fd = -1
        if self.wanted and os.name == "posix" and mmap is not None and sys.executable:
            with contextlib.suppress(OSError):  # no descriptor to be had: go without processes
                self.fd = _shared_memory()
                weakref.finalize(self, os.close, self.fd)
        self.arrays = job.arrays(self.fd)
        if held_out is not None:
            np.copyto(self.arrays["held_out"], held_out.ids)
            np.copyto(self.arrays["counted"], held_out.counted)
        self.bench = Bench(job, self.arrays)
        self.weights, self.gradient = self.arrays["weights"], self.arrays["gradient0"]
        self.turn = 0
        self.workers: list[Worker] = []
        self.lost = 0

    @property
    def state(self) -> State:
        """The recurrent state of all streams, layer by layer."""
        return self.bench.states[self.turn]

    @property
    def idle(self) -> bool:
        """Whether workers are wanted, none runs, and none was lost."""
        return self.fd != -1 and not self.workers and not self.lost

    def start_workers(self) -> None:
        """Start what is wanted; they join when they are ready."""
        if self.idle:
            with contextlib.suppress(OSError):  # no more processes: go without
                for _ in range(self.wanted):
                    self.workers.append(Worker(self.job, self.fd))

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.end()
        self.workers = []

    def drop(self, drops: Drops) -> None:
        """Leave out otherwise from here on. Workers know what they were told at their beginning, so
        they end; others may be started."""
        self.close()
        self.job = replace(self.job, drops=drops)
        self.bench = Bench(self.job, self.arrays)

    def _run(self, kind: bytes, scale: float = 0.0, step: int = 0) -> Array:
        """Have all shards done; return their nats (shards,)."""
        for worker in self.workers:
            if not worker.ready and worker.waits():
                worker.ready = worker.answers()
                if not worker.ready:
                    self._lose(worker)
        crew = [worker for worker in self.workers if worker.ready]
        n = 1 + len(crew)
        own, *tasks = [Task(kind, self.turn, first, n, scale, step) for first in range(n)]
        reached = [worker.send(task) for worker, task in zip(crew, tasks, strict=True)]
        self.bench.run(own)
        for worker, task, sent in zip(crew, tasks, reached, strict=True):
            if not (sent and worker.answers()):
                self._lose(worker)
                self.bench.run(task)
        return self.arrays["nats"]

    def _lose(self, worker: Worker) -> None:
        self.lost += 1
        self.workers = [w for w in self.workers if w is not worker]
        worker.end()

    def train(self, segment: Array, scale: float, step: int = 0) -> float:
        """Write the gradient of scale * (sum of the nats) over segment (T + 1, B) into
        `gradient`, move `state` on, and return the sum of the nats. `step`, the number of steps
        before this one, decides what is left out at random."""
        np.copyto(self.arrays["segment"], segment)
        nats = self._run(TRAIN, scale, step)
        self.turn = 1 - self.turn
        for k in range(1, self.job.shards):
            np.add(self.gradient, self.arrays[f"gradient{k}"], out=self.gradient)
        return float(np.sum(nats))

    def measure(self, weights: Array) -> float:
        """Nats of the held-out text under weights (P,)."""
        np.copyto(self.arrays["measured"], weights)
        return float(np.sum(self._run(MEASURE)))


def _work(fd: int, job: Job) -> None:
    bench = Bench(job, job.arrays(fd))
    os.write(1, READY)
    os.set_blocking(0, False)  # type: ignore[attr-defined,unused-ignore]
    while message := _read(0, MESSAGE.size):
        bench.run(Task(*MESSAGE.unpack(message)))
        os.write(1, DONE)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _work(int(sys.argv[1]), Job.from_json(sys.argv[2]))
