"""The processes that train one model together on one or many machines, through MPI.

Each rank has its own streams of the text; in every step the ranks add up their gradients and take
the same step with the sum, so that they all hold the same weights. Without `mpiexec` there is one
rank and nothing is imported.
"""

import os
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from charlstm.errors import UsageError
from charlstm.nn.arrays import Array

LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "MV2_COMM_WORLD_SIZE")
"""Variables of the environment by which MPI's launchers (MPICH and Intel MPI, Open MPI, PMIx,
MVAPICH) are known."""


class Votes(NamedTuple):
    """What a rank wants done after a step; of all ranks together, what any of them wants."""

    end: bool = False  # to end the run
    save: bool = False  # to save, as the time for that has come
    save_best: bool = False  # to save a new best if there is one


class Alone:
    """The only rank."""

    rank, size = 0, 1
    neighbours = 1  # ranks on this machine, this one included

    def add_(self, array: Array) -> None:
        """Put the sum over all ranks into `array`, on every rank the same bits."""

    def exchange(self, nats: float, votes: Votes) -> tuple[float, Votes]:
        """The sum of the nats of all ranks, and the votes that any of them has cast."""
        sums = np.array([nats, *votes])  # as numbers, so that one message has all
        self.add_(sums)
        return float(sums[0]), Votes(*(sums[1:] > 0).tolist())

    def gather(self, array: Array) -> Array:
        """The arrays (n, …) of all ranks one after the other on rank 0; elsewhere anything."""
        return array

    def wait(self) -> None:
        """Until all ranks are here."""

    def abort(self, code: int) -> None:
        """End all ranks at once, where there are others."""


ALONE = Alone()


class Mpi(Alone):
    """One rank of several that `mpiexec` started."""

    def __init__(self, MPI: Any) -> None:
        self.world, self.in_place = MPI.COMM_WORLD, MPI.IN_PLACE
        self.rank, self.size = self.world.Get_rank(), self.world.Get_size()
        self.neighbours = self.world.Split_type(MPI.COMM_TYPE_SHARED).Get_size()

    def add_(self, array: Array) -> None:
        self.world.Allreduce(self.in_place, array)

    def gather(self, array: Array) -> Array:
        array = np.ascontiguousarray(array)
        n, *rest = array.shape
        every = np.empty((n * self.size, *rest), array.dtype) if self.rank == 0 else array
        self.world.Gather(array, every)
        return every

    def wait(self) -> None:
        self.world.Barrier()

    def abort(self, code: int) -> None:
        self.world.Abort(code)


@cache
def ranks() -> Alone:
    """The ranks that this process is one of. Raises `UsageError` where it was started by an MPI
    launcher and mpi4py is missing."""
    if not any(name in os.environ for name in LAUNCHED):
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:  # RuntimeError: no MPI library is found
        raise UsageError(
            f"started by mpiexec, but mpi4py cannot be used ({e}); "
            "install it with: pip install 'charlstm[mpi]'"
        ) from None
    return Mpi(MPI) if MPI.COMM_WORLD.Get_size() > 1 else ALONE
