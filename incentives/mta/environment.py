"""MTA environment: the episode as Gymnasium knows it.

Paper: following arXiv 2208.05120.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.episode import Episode, Turn
from incentives.mta.generator import MTAGenerator
from incentives.mta.instance import MTAInstance


class MTAEnv(gymnasium.Env):
    """One episode is one pass over the tasks; rewards times `instance.unit` sum to the objective.

    generator: draws an instance at every reset, with or without a seed; `options={"instance": x}`
    plays x instead. order: tasks as given, or by falling price. action: 0 ... n-1, n rejects;
    `info["action_mask"]` says which may be chosen; any other counts as a rejection (agents that
    sample blindly exist, gymnasium's checker is one) and sets `info["refused"]`.

    Observation, all in [0, 1], (4 n + 6,): price, data, limit of the task (each over the
    instance's largest), owner one-hot, remaining capacity fraction, value over the largest (0 if
    not useful), work over capacity (1 if more), then the share of tasks left, the mean price and
    mean data of those left. All zeros once the episode is over.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        generator: MTAGenerator = MTAGenerator(),
        order: Literal["given", "price"] = "given",
    ):
        if order not in ("given", "price"):
            raise ConfigError(f"MTAEnv takes order=given or price, got '{order}'.")
        self.generator, self.order = generator, order
        n = generator.servers
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (4 * n + 6,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(n + 1)
        self._episode: Episode | None = None
        self._turn: Turn | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        instance = (options or {}).get("instance")
        if instance is None:
            instance = self.generator(self.np_random)
        if instance.servers != self.generator.servers:
            raise ConfigError(
                f"This MTAEnv has {self.generator.servers} servers, the instance "
                f"{instance.servers}: build one with MTAGenerator(servers={instance.servers})."
            )
        self._episode = Episode(instance, self.order)
        self._turn = self._episode.start()
        return self._observation(), self._info()

    def step(self, action: int):
        if self._turn is None or self._episode.over(self._turn):
            raise ConfigError("The episode is over (or none has begun): call reset first.")
        if not self.action_space.contains(action):
            raise ConfigError(f"MTAEnv: an action is 0 to {self.action_space.n - 1}, got {action}.")
        refused = not self._episode.mask(self._turn)[action]
        action = self._episode.instance.servers if refused else int(action)
        self._turn, reward = self._episode.step(self._turn, action)
        over = self._episode.over(self._turn)
        return self._observation(), reward, over, False, self._info(refused)

    @property
    def instance(self) -> MTAInstance:
        """The instance being played."""
        return self._episode.instance

    def _info(self, refused: bool = False) -> dict[str, Any]:
        n = self.generator.servers
        over = self._episode.over(self._turn)
        mask = np.append(np.zeros(n, bool), True) if over else self._episode.mask(self._turn)
        return {
            "action_mask": mask.astype(np.int8),
            "assignment": self._episode.assignment(self._turn).server.copy(),
            "refused": bool(refused),
        }

    def _observation(self) -> np.ndarray:
        if self._episode.over(self._turn):
            return np.zeros(self.observation_space.shape, np.float32)
        instance, task = self.instance, self._episode.task(self._turn)
        capacity = np.maximum(instance.capacity, 1e-12)
        left = self._episode.left(self._turn)
        price, data, limit = (
            x / np.abs(x).max() if x.any() else x
            for x in (instance.price, instance.data, instance.limit)
        )
        value = np.where(instance.useful[task], instance.value[task], 0.0) / instance.unit
        seen = [
            [price[task], data[task], limit[task]],
            np.eye(instance.servers)[instance.owner[task]],
            self._turn.remaining / capacity,
            value,
            instance.work[task] / capacity,
            [len(left) / instance.tasks, price[left].mean(), data[left].mean()],
        ]
        return np.concatenate(seen).clip(0.0, 1.0).astype(np.float32)
