"""What does the shards of a plan: this process, several on this machine, or the tasks of a SLURM array."""

from __future__ import annotations

import multiprocessing
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from anatozoo.annotate.ledger import commit, packed
from anatozoo.annotate.plan import Item, Plan
from anatozoo.annotate.stages import Stages, one_thread
from anatozoo.annotate.tries import Tries
from anatozoo.errors import AnatozooError, ConfigError, OutputError
from anatozoo.io.cores import allowed_cores

MOST_WORKERS = 8
"""Processes that are started where nobody says how many: each needs about a gigabyte."""
MOST_DEATHS = 5
"""Workers that may die one after the other without a shard done between; more than one image can kill."""
SCRIPT_NAME = "annotate.sbatch"
MOST_TASKS = 1000
"""Tasks of an array that SLURM takes as it is installed (MaxArraySize 1001)."""

OnShard = Callable[[int], None]


class Engine(Protocol):
    """Does shards of a plan and enters them into its ledger.

    Attributes:
        name: on the command line.
    """

    name: str

    def run(self, plan: Plan, shards: Sequence[int], on_shard: OnShard) -> bool:
        """Do shards.

        Args:
            plan: the plan.
            shards: those that are not done.
            on_shard: called with each shard that is.

        Returns:
            Whether they are done now; False where others are to do them.

        Raises:
            AnatozooError: it cannot go on; what is done stays done.
        """


class ShardRunner:
    """What computes shards in one process: the stages, loaded once.

    Args:
        plan: the plan.
        device: where networks compute.

    Raises:
        ConfigError: model, atlas or software are not those of the plan.
    """

    def __init__(self, plan: Plan, device: str) -> None:
        self.stages = Stages(plan.settings, device)
        plan.check_facts(self.stages.facts)
        self.plan = plan

    def result(self, shard: int, items: Sequence[Item]) -> bytes:
        """The result of a shard with these images, for `anatozoo.annotate.ledger.commit`."""
        stages = self.stages
        before = {"cpu": dict(stages.cpu), "wall": dict(stages.wall)}
        with one_thread(), Tries(self.plan.folder, shard) as tries:
            records = list(stages.run(items, self.plan.roots, tries))
        after = {"cpu": stages.cpu, "wall": stages.wall}
        times = {
            kind: {stage: round(value - before[kind][stage], 6) for stage, value in values.items()}
            for kind, values in after.items()
        }
        return packed(records, times)

    def do(self, shard: int) -> None:
        """Compute a shard and enter it into the ledger."""
        commit(self.plan, shard, self.result(shard, self.plan.items(shard)))


@dataclass(frozen=True)
class Local:
    """This machine: one process, or several that take one shard after another.

    Attributes:
        workers: processes; None takes the cores of this machine, up to eight, and one on a GPU.
        device: where networks compute.
    """

    workers: int | None = None
    device: str = "cpu"
    name = "local"

    def run(self, plan: Plan, shards: Sequence[int], on_shard: OnShard) -> bool:
        """Do shards; see `Engine`. A worker that dies is replaced, and its shard done again."""
        cores = min(allowed_cores(), MOST_WORKERS)
        wanted = self.workers or (cores if self.device == "cpu" else 1)
        if min(wanted, len(shards)) > 1:
            with _Workers(plan, self.device, min(wanted, len(shards)), _work) as workers:
                workers.run(shards, on_shard)
        elif shards:
            runner = ShardRunner(plan, self.device)
            for shard in shards:
                runner.do(shard)
                on_shard(shard)
        return True


class _Workers:
    """Processes that do shards, each with a pipe to this one."""

    def __init__(self, plan: Plan, device: str, count: int, work: Callable[..., None]) -> None:
        self.plan, self.device, self.count, self.work = plan, device, count, work
        self.busy: dict[Connection, tuple[BaseProcess, int]] = {}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *about: Any) -> None:
        for connection, (process, _) in self.busy.items():
            process.terminate()
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
            connection.close()

    def run(self, shards: Sequence[int], on_shard: OnShard) -> None:
        waiting, deaths = list(reversed(shards)), 0
        while waiting or self.busy:
            while waiting and len(self.busy) < self.count:
                self._start(waiting.pop())
            for connection in wait(list(self.busy)):
                assert isinstance(connection, Connection)
                process, shard = self.busy[connection]
                try:
                    error = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    del self.busy[connection]
                    connection.close()
                    waiting.append(shard)
                    deaths += 1
                    if deaths == MOST_DEATHS:
                        raise OutputError(
                            f"{deaths} workers died one after the other, the last of {_death(process)}; "
                            "memory may be short: use fewer --workers. What is done stays done."
                        ) from None
                    continue
                if error is not None:
                    raise AnatozooError(error)
                deaths = 0
                on_shard(shard)
                if waiting:
                    self.busy[connection] = (process, waiting.pop())
                    _send(connection, self.busy[connection][1])
                else:
                    del self.busy[connection]
                    _send(connection, None)
                    process.join()
                    connection.close()

    def _start(self, shard: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share locks of torch's threads
        ours, theirs = context.Pipe()
        process = context.Process(
            target=self.work, args=(self.plan, self.device, theirs), name="anatozoo-annotate", daemon=True
        )
        process.start()
        theirs.close()
        self.busy[ours] = (process, shard)
        _send(ours, shard)


def _send(pipe: Connection, shard: int | None) -> None:
    with suppress(OSError):  # it has died, which the next answer says
        pipe.send(shard)


def _work(plan: Plan, device: str, pipe: Connection) -> None:
    """Do the shards that come through a pipe, and answer each with None, or why it cannot go on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    with suppress(EOFError, OSError):  # it has ended
        runner = None
        while (shard := pipe.recv()) is not None:
            try:
                runner = runner or ShardRunner(plan, device)
                runner.do(shard)
                pipe.send(None)
            except AnatozooError as error:  # not every error goes through a pipe as it is
                pipe.send(str(error))


def _death(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@dataclass(frozen=True)
class Slurm:
    """A cluster with SLURM: writes the script of an array whose tasks do disjoint ranges of the shards.

    Attributes:
        tasks: of the array; None takes one for every ten shards, up to a thousand.
        workers: processes of each task; None takes one.
        device: where networks compute.
        formats: of the tables; None takes those of the plan.
        python: the interpreter of the environment with anatozoo, on a file system that every node sees.
    """

    tasks: int | None = None
    workers: int | None = None
    device: str = "cpu"
    formats: tuple[str, ...] | None = None
    python: str = sys.executable
    name = "slurm"

    def run(self, plan: Plan, shards: Sequence[int], on_shard: OnShard) -> bool:
        """Write the script; nothing is submitted."""
        from anatozoo.io.writers import write_text

        if shards:
            write_text(plan.folder / SCRIPT_NAME, self.script(plan, len(plan.shards)))
        return not shards

    def script(self, plan: Plan, shards: int) -> str:
        """The script of the array.

        Raises:
            ConfigError: the number of tasks is not possible.
        """
        tasks = min(self.tasks or min(-(-shards // 10), MOST_TASKS), shards)
        if tasks < 1:
            raise ConfigError(f"tasks={self.tasks} must be at least 1.")
        each, workers = -(-shards // tasks), self.workers or 1
        tasks = -(-shards // each)
        gpu = "" if self.device == "cpu" else "#SBATCH --gpus=1\n"
        command = [self.python, "-m", "anatozoo", "annotate", "--out", str(plan.folder)]
        command += ["--workers", str(workers), "--device", self.device]
        command += ["--format", ",".join(self.formats)] if self.formats else []
        log = str(plan.folder / "slurm-").replace("%", "%%") + "%a.log"
        return f"""#!/bin/bash
# {plan.total} images in {shards} shards, {each} for a task. Submit it again, or let SLURM requeue a task, and
# what is missing is done. The task that finishes last writes the tables.
#SBATCH --job-name=anatozoo-annotate
#SBATCH --array=0-{tasks - 1}
#SBATCH --cpus-per-task={workers}
#SBATCH --mem-per-cpu=3G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{log}"
{gpu}
set -euo pipefail
export OMP_NUM_THREADS=1
first=$((SLURM_ARRAY_TASK_ID * {each}))
last=$((first + {each}))
exec {shlex.join(command)} --shards "$first:$last"
"""
