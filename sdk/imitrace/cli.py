"""Offer the ``imitrace`` command: a table of commands, each loaded from its room when it is called."""

import importlib
import sys
from dataclasses import dataclass

import click

from imitrace.exceptions import ImitraceError


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives, which extra brings it, and its line of help."""

    module: str
    function: str
    extra: str
    help: str


_COLLECTOR = "imitrace_collector.cli"
_READS = "imitrace_collector.reads_cli"
_MAINTENANCE = "imitrace_collector.maintenance_cli"
_TRAINER = "imitrace_trainer.cli"
_EXPORTS = "imitrace_trainer.exports_cli"
_SCORES = "imitrace_trainer.score_cli"
_DATASETS = "imitrace_trainer.datasets_cli"
_TOOLS = "imitrace_trainer.tools_cli"
_CLONES = "imitrace_trainer.clones_cli"
_SCAN = "imitrace_trainer.scan_cli"
_ROUTE = "imitrace_trainer.route_cli"
_QUEUE = "imitrace_trainer.queue_cli"
_SAVINGS = "imitrace_trainer.savings_cli"
_CORRECT = "imitrace_trainer.correct_cli"
_REFRESH = "imitrace_trainer.refresh_cli"
_SCHEDULE = "imitrace_trainer.schedule_cli"
_ALERTS = "imitrace_trainer.alerts_cli"
_SERVE = "imitrace_trainer.serve_cli"
_DRIFT = "imitrace_trainer.drift_cli"

_INTERRUPTED = 130
"""What shells say of a process that SIGINT ended."""

COMMANDS: dict[str, LazyCommand] = {
    "demo": LazyCommand(_TRAINER, "demo", "all", "Run the whole loop on the bundled support desk."),
    "collect": LazyCommand(_COLLECTOR, "collect", "collector", "Receive OTLP traces into the store."),
    "import": LazyCommand(_COLLECTOR, "import_", "collector", "Import trajectories from files of many formats."),
    "snapshot": LazyCommand(_COLLECTOR, "snapshot", "collector", "Write the store's tables as Parquet files."),
    "rebuild": LazyCommand(_COLLECTOR, "rebuild", "collector", "Derive trajectories and steps anew from raw spans."),
    "expire": LazyCommand(_MAINTENANCE, "expire", "collector", "Delete old trajectories and what belongs to them."),
    "compact": LazyCommand(_MAINTENANCE, "compact", "collector", "Give the space of what was deleted back."),
    "backup": LazyCommand(_MAINTENANCE, "backup", "collector", "Copy the store, also while a collector runs."),
    "restore": LazyCommand(_MAINTENANCE, "restore", "collector", "Put a backup's store in place."),
    "migrate": LazyCommand(_MAINTENANCE, "migrate", "collector", "Bring an older imitrace's store to this version."),
    "trajectories": LazyCommand(_COLLECTOR, "trajectories", "collector", "List the trajectories in the store."),
    "show": LazyCommand(_COLLECTOR, "show", "collector", "Print one trajectory step by step."),
    "steps": LazyCommand(_READS, "steps", "collector", "Print a line for each step of the store."),
    "spans": LazyCommand(_READS, "spans", "collector", "Print what came in of one trace."),
    "dialects": LazyCommand(_READS, "dialects", "collector", "Say which instrumentation was recognised."),
    "doctor": LazyCommand(_READS, "doctor", "collector", "Explain how the steps of a trace were made."),
    "sql": LazyCommand(_READS, "sql", "collector", "Ask the store in SQL, read-only."),
    "score": LazyCommand(_SCORES, "score", "trainer", "Score trajectories, or give one a score from outside."),
    "tools": LazyCommand(_TOOLS, "tools", "trainer", "List tool contracts; say what becomes of old tools."),
    "scan": LazyCommand(_SCAN, "scan", "trainer", "Say before training how much a clone could act on."),
    "curate": LazyCommand(_TRAINER, "curate", "trainer", "Make a dataset version from a cohort."),
    "datasets": LazyCommand(_DATASETS, "datasets", "trainer", "List and compare dataset versions."),
    "export": LazyCommand(_EXPORTS, "export", "trainer", "Write trajectories for other trainers."),
    "train": LazyCommand(_TRAINER, "train", "trainer", "Train a clone on its cohort's newest dataset."),
    "evaluate": LazyCommand(_TRAINER, "evaluate", "trainer", "Compare a clone with the expert, decision by decision."),
    "report": LazyCommand(_CLONES, "report", "trainer", "Measure how far a clone can be trusted, as a page."),
    "gate": LazyCommand(_TRAINER, "gate", "trainer", "Decide per cohort whether a clone may act."),
    "clones": LazyCommand(_CLONES, "clones", "trainer", "List, show and verify clones."),
    "keys": LazyCommand(_CLONES, "keys", "trainer", "Show the key that signs clones, and whose are trusted."),
    "promote": LazyCommand(_TRAINER, "promote", "trainer", "Make a gated version the champion."),
    "rollback": LazyCommand(_TRAINER, "rollback", "trainer", "Put the previous champion back."),
    "route": LazyCommand(_ROUTE, "route", "trainer", "Show how a clone in service is routed; apply new settings."),
    "audit": LazyCommand(_ROUTE, "audit", "trainer", "Estimate how often the expert would have done otherwise."),
    "drift": LazyCommand(_DRIFT, "drift", "trainer", "Compare recent traffic with what a champion learnt from."),
    "serve": LazyCommand(_SERVE, "serve", "serve", "Serve a clone as a proxy of the model's own API."),
    "predict": LazyCommand(_TRAINER, "predict", "trainer", "Write a clone's action for every decision in a file."),
    "correct": LazyCommand(_CORRECT, "correct", "trainer", "Let an expert correct a clone where its own steps lead."),
    "queue": LazyCommand(_QUEUE, "queue", "trainer", "Judge where clone and expert differ."),
    "savings": LazyCommand(_SAVINGS, "savings", "trainer", "Say what a clone saves, and what it costs."),
    "refresh": LazyCommand(_REFRESH, "refresh", "trainer", "Do the turn from curate to promote, where it is due."),
    "runs": LazyCommand(_REFRESH, "runs", "trainer", "List what past refreshes did."),
    "schedule": LazyCommand(_SCHEDULE, "schedule", "trainer", "Have a scheduler call refresh."),
    "alerts": LazyCommand(_ALERTS, "alerts", "trainer", "List what stands against clones, and tell it."),
}

_EXTRA_MODULES = {
    *("duckdb", "starlette", "uvicorn", "httptools", "prometheus_client", "zstandard", "pyarrow"),
    *("polars", "torch", "safetensors", "numpy", "cryptography", "aiohttp", "yarl"),
}


class LazyGroup(click.Group):
    """Resolve commands on use, so that ``imitrace --help`` loads no room."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the loop."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command from its room.

        Raises:
            ClickException: the extra that brings it is not installed.
        """
        if cmd_name not in COMMANDS:
            return None
        lazy = COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(lazy.module), lazy.function)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA_MODULES:
                raise
            raise missing_extra(cmd_name, lazy.extra, error.name) from error
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong table is our own bug
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; print an ``ImitraceError`` as one line and exit with 2, with 130 when it is interrupted."""
        try:
            return super().invoke(ctx)
        except ImitraceError as error:
            click.echo(f"imitrace: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("imitrace: interrupted", err=True)
            sys.exit(_INTERRUPTED)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA_MODULES or not ctx.invoked_subcommand:
                raise
            raise missing_extra(ctx.invoked_subcommand, COMMANDS[ctx.invoked_subcommand].extra, error.name) from error


class MissingExtraError(click.ClickException):
    """Report in one line a command whose extra is not installed."""

    exit_code = 2


def missing_extra(command: str, extra: str, module: str) -> MissingExtraError:
    """Return the error for a command whose extra is not installed."""
    return MissingExtraError(f"'imitrace {command}' needs {module}: pip install 'imitrace[{extra}]'")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="imitrace")
def main() -> None:
    """Trace an agent, clone its best behaviour, and let the clone act only where it is proven.

    \b
    Examples:
      imitrace demo
      imitrace collect
      imitrace import traces.jsonl.gz --agent airline --tools tools.json
      imitrace curate airline && imitrace train airline && imitrace gate airline
    """
