"""Ray as an engine: actors that hold the model do shards, and this process alone enters them into the ledger.

An actor is given the images of a shard and gives back its result as bytes, so the nodes need the sources
and the model, but not the folder of the results. At most two shards are with an actor: one that it works
on and one that waits, so that results never pile up. A lost node loses those; they are done by others.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from anatozoo.annotate.engines import MOST_DEATHS, OnShard, ShardRunner
from anatozoo.annotate.ledger import commit
from anatozoo.annotate.plan import Item, Plan
from anatozoo.errors import AnatozooError, ConfigError, OutputError

_COMPARED = ("anatozoo", "torch", "numpy", "ray")
PATIENCE = 600
"""Seconds in which the first worker must start."""
_AHEAD = 2
"""Shards that an actor has been given at most."""


def versions() -> dict[str, str]:
    """What must be the same in the driver and on every node."""
    return {"python": platform.python_version(), **{name: version(name) for name in _COMPARED}}


class Worker:
    """An actor: the model, loaded once.

    Args:
        plan: the plan.
        device: where networks compute.
    """

    def __init__(self, plan: Plan, device: str) -> None:
        self._plan, self._device = plan, device
        self._runner: ShardRunner | None = None

    def versions(self) -> dict[str, str]:
        """Of the node."""
        return versions()

    def do(self, items: Sequence[Item], shard: int) -> bytes | str:
        """The result of a shard, or a sentence on why it cannot be done."""
        try:
            self._runner = self._runner or ShardRunner(self._plan, self._device)
            return self._runner.result(shard, items)
        except AnatozooError as error:
            return str(error)


@dataclass(frozen=True)
class OnRay:
    """A cluster with Ray.

    Attributes:
        workers: actors; None takes as many as there are CPUs, or GPUs, in the cluster now.
        device: where networks compute; ``"cuda"`` gives each actor one GPU.
        address: of the cluster; None takes ``RAY_ADDRESS``, or starts Ray on this machine.
    """

    workers: int | None = None
    device: str = "cpu"
    address: str | None = None
    name = "ray"

    def run(self, plan: Plan, shards: Sequence[int], on_shard: OnShard) -> bool:
        """Do shards; see `anatozoo.annotate.engines.Engine`.

        Raises:
            ConfigError: Ray is not installed, cannot be reached, or is of other versions on a node.
            OutputError: its workers die one after the other, or the cluster is lost.
        """
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
            except Exception as error:  # of many classes, among them RuntimeError for other versions
                raise ConfigError(f"Ray cannot be used: {' '.join(str(error).split())}") from error
        try:
            _Actors(ray, plan, self).run(shards, on_shard)
        except ray.exceptions.RayError as error:
            raise OutputError(
                f"the cluster of Ray was lost ({type(error).__name__}); what is done stays done, and the "
                "same command goes on with the rest."
            ) from error
        finally:
            if ours:
                ray.shutdown()
        return True


class _Actors:
    """The actors of a run and what they have been given."""

    def __init__(self, ray: Any, plan: Plan, engine: OnRay) -> None:
        self.ray, self.plan, self.engine = ray, plan, engine
        kind, gpus = ("CPU", 0) if engine.device == "cpu" else ("GPU", 1)
        self.actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Worker)
        self.count = engine.workers or max(1, int(ray.cluster_resources().get(kind, 0)))
        self.starting: dict[Any, Any] = {}
        self.actors: list[Any] = []
        self.given: dict[Any, tuple[Any, int]] = {}

    def run(self, shards: Sequence[int], on_shard: OnShard) -> None:
        waiting, deaths = deque(shards), 0
        try:
            while waiting or self.given:
                self._start(len(waiting) + len(self.given))
                self._give(waiting)
                answer, actor = self._next()
                if actor is not None:
                    if not self._is_like_us(answer):
                        deaths += 1
                    else:
                        self.actors.append(actor)
                else:
                    actor, shard = self.given.pop(answer)
                    result = self._result(answer)
                    if isinstance(result, bytes):
                        commit(self.plan, shard, result)
                        deaths = 0
                        on_shard(shard)
                    else:  # what else it had comes back likewise
                        waiting.appendleft(shard)
                        if actor in self.actors:
                            self.actors.remove(actor)
                            self.ray.kill(actor)
                            deaths += 1
                if deaths == MOST_DEATHS:
                    raise OutputError(
                        f"{deaths} workers of Ray died one after the other; its logs say why. What is done "
                        "stays done."
                    )
        finally:
            for actor in [*self.actors, *self.starting.values()]:
                self.ray.kill(actor)

    def _start(self, shards: int) -> None:
        """Have as many actors as there is work for; where the cluster lacks room, they come later."""
        while len(self.actors) + len(self.starting) < min(self.count, shards):
            actor = self.actor.remote(self.plan, self.engine.device)
            self.starting[actor.versions.remote()] = actor

    def _give(self, waiting: deque[int]) -> None:
        """Give each actor its next shard, those first that have none."""
        for most in range(1, _AHEAD + 1):
            for actor in self.actors:
                if waiting and sum(actor is other for other, _ in self.given.values()) < most:
                    shard = waiting.popleft()
                    self.given[actor.do.remote(self.plan.items(shard), shard)] = (actor, shard)

    def _next(self) -> tuple[Any, Any]:
        """The next answer, and the actor if it is one that starts."""
        ready, _ = self.ray.wait(
            [*self.given, *self.starting], num_returns=1, timeout=None if self.given else PATIENCE
        )
        if not ready:
            raise OutputError(
                f"no worker of Ray could start in {PATIENCE} s; the cluster has no free processor, or no GPU."
            )
        return ready[0], self.starting.pop(ready[0], None)

    def _result(self, answer: Any) -> bytes | None:
        """The result of a shard; None where its actor died, or the node that kept it."""
        died = self.ray.exceptions
        try:
            result = self.ray.get(answer)
        except (
            died.RayActorError,
            died.ObjectLostError,
            died.NodeDiedError,
            died.OutOfMemoryError,
            died.WorkerCrashedError,
        ):
            return None
        if isinstance(result, str):
            raise ConfigError(result)
        found: bytes = result
        return found

    def _is_like_us(self, answer: Any) -> bool:
        """Whether an actor that started has the same versions; False where it died."""
        try:
            theirs = self.ray.get(answer)
        except self.ray.exceptions.RayActorError:
            return False
        for name, here in versions().items():
            if theirs[name] != here:
                raise ConfigError(
                    f"a node of the cluster has {name} {theirs[name]}, and this machine {here}; install the "
                    "same on all of them."
                )
        return True


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            "the engine ray needs Ray, which is not installed: pip install 'anatozoo[ray]'; or use local or "
            "slurm."
        ) from error
    return ray
