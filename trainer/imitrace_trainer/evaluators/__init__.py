"""Score trajectories: plain classes with one call, ``evaluate(input, trajectory)``, which gives score and reason."""

from imitrace_trainer.evaluators.aggregate import StepCount, TrajectoryScore, aggregate
from imitrace_trainer.evaluators.agreement import Agreement, agreement
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.evaluators.completion import TaskCompletion, TerminalSigns
from imitrace_trainer.evaluators.injection import PromptInjection
from imitrace_trainer.evaluators.judge import Judge, JudgeConfig
from imitrace_trainer.evaluators.judge_client import JudgeClient
from imitrace_trainer.evaluators.reasoning import ReasoningQuality
from imitrace_trainer.evaluators.result import Evaluator, Result, StepResult, Task
from imitrace_trainer.evaluators.selection import Reference, ToolSelectionAccuracy
from imitrace_trainer.evaluators.toxicity import Toxicity
from imitrace_trainer.evaluators.trajectories import episode_of

__all__ = [
    "Agreement",
    "Equivalence",
    "Evaluator",
    "Judge",
    "JudgeClient",
    "JudgeConfig",
    "PromptInjection",
    "ReasoningQuality",
    "Reference",
    "Result",
    "StepCount",
    "StepResult",
    "Task",
    "TaskCompletion",
    "TerminalSigns",
    "ToolSelectionAccuracy",
    "Toxicity",
    "TrajectoryScore",
    "aggregate",
    "agreement",
    "episode_of",
]
