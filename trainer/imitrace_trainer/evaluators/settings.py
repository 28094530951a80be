"""Read the ``[score]`` table of ``imitrace.toml``, and make the evaluators that are named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final

from imitrace.config import setting
from imitrace.exceptions import ConfigError
from imitrace_trainer.evaluators import futureagi
from imitrace_trainer.evaluators.aggregate import WAYS, StepCount, TrajectoryScore
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.evaluators.completion import DECLARED, TaskCompletion, TerminalSigns
from imitrace_trainer.evaluators.injection import PromptInjection
from imitrace_trainer.evaluators.judge import Judge, JudgeConfig
from imitrace_trainer.evaluators.judge_client import JudgeClient
from imitrace_trainer.evaluators.reasoning import ReasoningQuality
from imitrace_trainer.evaluators.result import Evaluator
from imitrace_trainer.evaluators.selection import Reference, ToolSelectionAccuracy
from imitrace_trainer.evaluators.toxicity import Toxicity

DEFAULT: Final = ("TaskCompletion", "ToolSelectionAccuracy", "TrajectoryScore", "StepCount")
"""What is scored when nothing is named."""
STEP_SCORES: Final = ("StepScore", "StepReward")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What ``imitrace score`` computes, and how."""

    evaluators: tuple[str, ...] = DEFAULT
    """Names of evaluators."""
    declared: tuple[str, ...] = DECLARED
    """Names of scores from outside that say how a task ended, from 0 to 1; the first that is there counts."""
    step_scores: tuple[str, ...] = STEP_SCORES
    """Names of scores from outside that steps have, from 0 to 1."""
    aggregate: str = "mean"
    """How steps' scores become one: mean, min or geometric."""
    equivalents: tuple[tuple[str, ...], ...] = ()
    """Groups of tools that do the same."""
    ignored_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arguments that don't count, by tool; ``*`` for all."""
    judge: JudgeConfig | None = None
    """The model that judges, if one is named."""


_Made = Callable[[ScoreConfig, ToolSelectionAccuracy], Evaluator]

EVALUATORS: Final[Mapping[str, _Made]] = {
    "TaskCompletion": lambda config, selection: TaskCompletion(config.declared),
    "TerminalSigns": lambda config, selection: TerminalSigns(),
    "ToolSelectionAccuracy": lambda config, selection: selection,
    "TrajectoryScore": lambda config, selection: TrajectoryScore(selection, config.aggregate),
    "StepCount": lambda config, selection: StepCount(),
    "ReasoningQuality": lambda config, selection: ReasoningQuality(),
    "Toxicity": lambda config, selection: Toxicity(),
    "PromptInjection": lambda config, selection: PromptInjection(),
}
"""What makes each evaluator, by the name of its score."""


def make_evaluators(names: Sequence[str], config: ScoreConfig, reference: Reference) -> list[Evaluator]:
    """Return the evaluators of these names; ``all`` stands for every one but judges and other packages' definitions.

    Raises:
        ConfigError: there is no such evaluator.
    """
    wanted = [name for given in names for name in (EVALUATORS if given == "all" else (given,))]
    for name in wanted:
        if name not in EVALUATORS:
            raise ConfigError(f"evaluator {name!r} is unknown, allowed: all, {', '.join(EVALUATORS)}")
    equivalence = Equivalence.of(config.equivalents, config.ignored_arguments)
    selection = ToolSelectionAccuracy(reference, equivalence)
    return [EVALUATORS[name](config, selection) for name in dict.fromkeys(wanted)]


def make_futureagi() -> list[Evaluator]:
    """Return the other package's definitions."""
    return [metric() for metric in futureagi.METRICS]


def make_judge(config: ScoreConfig) -> tuple[Evaluator, JudgeClient]:
    """Return the judge, and its client, which counts what is spent; its key is ``IMITRACE_JUDGE_KEY``.

    Raises:
        ConfigError: no judge is configured.
    """
    judge = config.judge
    if judge is None:
        raise ConfigError("no judge is configured, add a table [score.judge] with endpoint and model to imitrace.toml")
    client = JudgeClient(
        endpoint=judge.endpoint,
        model=judge.model,
        key=setting("IMITRACE_JUDGE_KEY"),
        answer_tokens=judge.answer_tokens,
        temperature=judge.temperature,
        token_budget=judge.token_budget,
        timeout=judge.timeout,
        retries=judge.retries,
    )
    return Judge(judge, client), client


def score_from_config(config: Mapping[str, Any]) -> ScoreConfig:
    """Return the table ``[score]``; all of it has defaults.

    Raises:
        ConfigError: a key or value is wrong.
    """
    table = _table(config.get("score", {}), "score", ScoreConfig)
    readers: Mapping[str, Callable[[object, str], Any]] = {
        "evaluators": _texts,
        "declared": _texts,
        "step_scores": _texts,
        "equivalents": _groups,
        "ignored_arguments": _lists,
        "aggregate": _way,
        "judge": _judge,
    }
    return ScoreConfig(**{key: readers[key](value, f"score.{key}") for key, value in table.items()})


def _table(value: object, where: str, kind: type) -> Mapping[str, Any]:
    allowed = [field.name for field in fields(kind)]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}, expected a table with {', '.join(allowed)}")
    for key in value:
        if key not in allowed:
            raise ConfigError(f"{where} has unknown key {key!r}, allowed: {', '.join(allowed)}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"{where} is {value!r}, expected a list of texts")
    return tuple(value)


def _groups(value: object, where: str) -> tuple[tuple[str, ...], ...]:
    groups = value if isinstance(value, list) else [value]
    found = tuple(_texts(group, where) for group in groups)
    names = [name for group in found for name in group]
    if len(names) != len(set(names)) or not all(found):
        raise ConfigError(f"{where} is {value!r}, expected lists of tools' names, each name once")
    return found


def _lists(value: object, where: str) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}, expected a table of lists of texts")
    return {tool: _texts(names, f"{where}.{tool}") for tool, names in value.items()}


def _way(value: object, where: str) -> str:
    if value not in WAYS:
        raise ConfigError(f"{where} is {value!r}, allowed: {', '.join(WAYS)}")
    return str(value)


def _judge(value: object, where: str) -> JudgeConfig:
    table = _table(value, where, JudgeConfig)
    found: dict[str, Any] = {}
    for spec in fields(JudgeConfig):
        if spec.name in table:
            found[spec.name] = _typed(
                table[spec.name], str if spec.default is MISSING else type(spec.default), spec.name
            )
        elif spec.default is MISSING:
            raise ConfigError(f"{where}.{spec.name} is missing")
    return JudgeConfig(**found)


def _typed(value: object, kind: type, name: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (isinstance(value, int | float) and value < 0) or value == "":
        said = {str: "a text", int: "a whole number from 0", float: "a number from 0"}[kind]
        raise ConfigError(f"score.judge.{name} is {value!r}, expected {said}")
    return value
