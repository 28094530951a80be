"""Turn any Gymnasium environment with discrete actions into a world of tools, tasks and messages."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.worlds.calling import answer, call_problem, choice, define_tool, refuse

ONE_TOOL: Final = "act"
"""The tool's name where one tool does everything; its argument is ``action``."""


@dataclass(frozen=True)
class GymnasiumTask:
    """One episode; ``COHORT-SEED-NUMBER`` says all that makes it."""

    id: str
    cohort: str

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of its trajectories."""
        return {"cohort": self.cohort}


@dataclass(frozen=True)
class Progress:
    """How an episode stands, for functions that judge it."""

    observation: Any
    """The last one, as the environment gave it."""
    info: Mapping[str, Any] = field(default_factory=dict)
    reward: float = 0.0
    """Of the last step."""
    total: float = 0.0
    """Of all steps."""
    steps: int = 0
    terminated: bool = False
    truncated: bool = False
    unsafe: bool = False
    """Whether this step, or one before it, must not have happened."""

    @property
    def done(self) -> bool:
        """Return whether the episode has ended."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class _Snapshot:
    task: GymnasiumTask
    progress: Progress
    taken: tuple[int, ...]
    copied: Any
    """The environment; None where it can't be copied."""


class GymnasiumWorld:
    """Play a Gymnasium environment; one object plays one episode at a time.

    A task's name determines the seed that the environment is reset with, and so the episode, as far as the environment
    keeps its own promise.

    Source: https://gymnasium.farama.org/api/env/
    """

    def __init__(  # noqa: PLR0913 - each is one thing that Gymnasium leaves open
        self,
        environment: str | Callable[..., Any],
        actions: Mapping[int, str],
        *,
        success: float | Callable[[Progress], bool] = 1.0,
        unsafe: Callable[[Progress], bool] | None = None,
        observe: Callable[[Any], Any] | None = None,
        instructions: str = "Reach the goal by calling tools.",
        cohorts: Mapping[str, Mapping[str, Any]] | None = None,
        one_tool: bool = False,
        state: Callable[[Any], Any] | None = None,
    ) -> None:
        """Prepare to play; an environment is made when its first task is reset.

        Args:
            environment: a name that ``gymnasium.make`` knows, or a function that returns an environment.
            actions: what each action is called: a tool's name, or a value of the one tool's argument.
            success: the sum of rewards from which an episode that has ended is a success, or a function that says so.
            unsafe: says whether what happened must not happen; None: nothing is unsafe.
            observe: makes a text, or any JSON value, of an observation; None: arrays become lists.
            instructions: the system message.
            cohorts: by name the keyword arguments with which the environment is made. None: one cohort, ``common``.
            one_tool: offer one tool, ``act``, with the action as its argument, instead of a tool for each action.
            state: returns, of the unwrapped environment, a JSON value that says all that matters for what comes. None:
                ``state_key`` goes by the actions taken, and so two ways to one state have two keys.

        Raises:
            ConfigError: no action is named, two have one name, or a cohort's name holds a dash.
        """
        names, chosen = list(actions.values()), dict(cohorts or {"common": {}})
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"actions are {dict(actions)}, allowed: at least one, each with a name of its own")
        if wrong := [name for name in chosen if not name or "-" in name]:
            raise ConfigError(f"cohort {wrong[0]!r} can't be used, allowed: a name without a dash")
        self._make, self._cohorts, self._instructions = environment, chosen, instructions
        self._success, self._unsafe = _succeeds(success), unsafe or (lambda progress: False)
        self._observe, self._state = observe or _plain, state
        self._numbers = {name: number for number, name in actions.items()}
        self._one_tool = one_tool
        self._tools = (
            [define_tool(ONE_TOOL, "Take an action.", action=choice(names))]
            if one_tool
            else [define_tool(name, f"Take the action {name}.") for name in names]
        )
        self._made: dict[str, Any] = {}  # environments by cohort
        self._task: GymnasiumTask | None = None
        self._environment: Any = None
        self._progress = Progress(None)
        self._taken: list[int] = []

    @property
    def tools(self) -> list[Mapping[str, Any]]:  # OpenAI tool definitions
        """Return the tools offered, in OpenAI's form."""
        return list(self._tools)

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> list[GymnasiumTask]:
        """Return ``count`` episodes of a seed, of one cohort or of all in turn.

        Raises:
            ConfigError: there is no such cohort.
        """
        names = list(self._cohorts) if cohort is None else [self._known(cohort)]
        drawn = ((names[number % len(names)], number) for number in range(count))
        return [GymnasiumTask(f"{name}-{seed}-{number}", name) for name, number in drawn]

    def reset(self, task_id: str, seed: int = 0) -> list[dict[str, Any]]:  # OpenAI messages
        """Begin an episode and return its first messages; ``seed`` changes nothing, as the name says all.

        Raises:
            ConfigError: there is no such cohort, or Gymnasium is not installed.
        """
        cohort = self._known(task_id.split("-")[0])
        self._environment = self._made.get(cohort) or self._made.setdefault(cohort, self._new(cohort))
        observation, info = self._environment.reset(seed=int(text_hash(task_id)[:7], 16))
        self._task, self._taken = GymnasiumTask(task_id, cohort), []
        self._progress = Progress(observation, info)
        first = self._told()
        return [{"role": "system", "content": self._instructions}, {"role": "user", "content": first}]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:  # OpenAI messages
        """Take an action.

        Returns:
            The observation as the tool's result, whether the episode has ended, and ``info``: ``success``, ``lost``,
            ``unsafe``, and ``reward``, the sum so far. What is no call of a tool here is answered with an error and
            changes nothing.
        """
        if self._progress.done:
            return [], True, self.info
        if action.kind != "tool_call":
            return [{"role": "user", "content": "Nobody hears you. Call a tool."}], False, self.info
        if problem := call_problem(self._tools, action):
            return refuse(action, problem), False, self.info
        self._take(self._numbers[action.arguments["action"] if self._one_tool else str(action.name)])
        return answer(action, self._told()), self._progress.done, self.info

    @property
    def task(self) -> GymnasiumTask:
        """Return the episode being played."""
        if self._task is None:
            raise ConfigError("gymnasium world has no episode, call reset(task_id) first")
        return self._task

    @property
    def progress(self) -> Progress:
        """Return how the episode stands, with the environment's own last observation."""
        return self._progress

    @property
    def environment(self) -> Any:
        """Return Gymnasium's environment; an agent that is judged must not look."""
        return self._environment

    @property
    def info(self) -> dict[str, Any]:
        """Return what ``step`` says beside the messages."""
        now = self._progress
        success = now.done and self._success(now)
        lost = now.done and not success
        return {"success": success, "lost": lost, "unsafe": now.unsafe, "reward": now.total}

    def actions(self) -> list[Action]:
        """Return every tool call that can be made now; where ``info`` has an ``action_mask``, those that it allows."""
        mask = self._progress.info.get("action_mask")
        return [
            Action("tool_call", ONE_TOOL, {"action": name}) if self._one_tool else Action("tool_call", name)
            for name, number in self._numbers.items()
            if not self._progress.done and (mask is None or mask[number])
        ]

    def state_key(self) -> str:
        """Return the hash of the state: of ``state``, or of the actions taken."""
        found = self._taken if self._state is None else self._state(self._environment.unwrapped)
        return content_hash([self.task.id, _plain(found), self._progress.done])

    def snapshot(self) -> object:
        """Return the present state, to go on from later.

        The environment is copied with ``copy.deepcopy``. One that can't be copied, as it holds a window or a foreign
        library's memory, is played up to the same point again by ``restore``.
        """
        return _Snapshot(self.task, self._progress, tuple(self._taken), _copied(self._environment))

    def restore(self, snapshot: object) -> None:
        """Go back to a state.

        Raises:
            ConfigError: it is not what ``snapshot`` returned.
        """
        if not isinstance(snapshot, _Snapshot):
            raise ConfigError(
                f"snapshot is a {type(snapshot).__name__}, expected what GymnasiumWorld.snapshot() returned"
            )
        if snapshot.copied is None:
            self.reset(snapshot.task.id)
            for number in snapshot.taken:
                self._take(number)
            return
        self._environment = self._made[snapshot.task.cohort] = _copied(snapshot.copied)
        self._task, self._progress, self._taken = snapshot.task, snapshot.progress, list(snapshot.taken)

    def _take(self, number: int) -> None:
        observation, reward, terminated, truncated, info = self._environment.step(number)
        now = self._progress
        self._progress = replace(
            now,
            observation=observation,
            info=info,
            reward=float(reward),
            total=now.total + float(reward),
            steps=now.steps + 1,
            terminated=bool(terminated),
            truncated=bool(truncated),
        )
        self._taken.append(number)
        self._progress = replace(self._progress, unsafe=now.unsafe or self._unsafe(self._progress))

    def _told(self) -> str:
        found = self._observe(self._progress.observation)
        return found if isinstance(found, str) else canonical_json({"observation": _plain(found)})

    def _known(self, cohort: str) -> str:
        if cohort not in self._cohorts:
            raise ConfigError(f"cohort is {cohort!r}, allowed: {', '.join(self._cohorts)}")
        return cohort

    def _new(self, cohort: str) -> Any:
        if not isinstance(self._make, str):
            made = self._make(**self._cohorts[cohort])
        else:
            try:
                import gymnasium
            except ImportError as error:
                told = f"gymnasium can't be imported ({error}), run: pip install 'imitrace[gymnasium]'"
                raise ConfigError(told) from error
            made = gymnasium.make(self._make, **self._cohorts[cohort])
        size = getattr(made.action_space, "n", None)
        if size is None or not all(0 <= number < size for number in self._numbers.values()):
            raise ConfigError(f"actions are {self._numbers}, and the environment has {made.action_space}")
        return made


def _succeeds(success: float | Callable[[Progress], bool]) -> Callable[[Progress], bool]:
    if callable(success):
        return success
    least = float(success)
    return lambda progress: progress.total >= least


def _copied(environment: Any) -> Any:
    try:
        return copy.deepcopy(environment)
    except Exception:  # each kind of environment fails in its own way
        return None


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays and NumPy's numbers as lists and numbers."""
    return json.loads(json.dumps(value, default=_listed))


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
