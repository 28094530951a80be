"""Turn tracing on: put together what was asked for, from arguments and the environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitrace.config import opentelemetry_settings, setting, switched_on, workspace_home
from imitrace.exceptions import ConfigError
from imitrace.faults import Faults
from imitrace.provider import install, shutdown
from imitrace.sampling import Sampler, sampler_of

if TYPE_CHECKING:  # OpenTelemetry's SDK is loaded when tracing is configured
    from opentelemetry.sdk.trace import TracerProvider

    from imitrace.delivery.outbox import OutboxConfig
    from imitrace.delivery.transports import Connection
    from imitrace.pipeline import TracingConfig
    from imitrace.redaction.redactor import Redactor
    from imitrace.redaction.rules import Rule


_MAX_DELAY = 60.0
_LOSSLESS: dict[str, Any] = {"delay": 0.2, "max_records": 32_768, "batch_records": 1024}
"""Records are on disk after two tenths of a second, what a process that is killed may lose; bursts wait in memory."""


def configure(  # noqa: PLR0913 - typed by hand at the top of every agent, so each option is a plain keyword
    *,
    agent: str | None = None,
    endpoint: str | None = None,
    protocol: str | None = None,
    token: str | None = None,
    policy_name: str | None = None,
    policy_version: str | None = None,
    policy_role: str = "expert",
    agent_version: str | None = None,
    sample: float | None = None,
    redact: "Sequence[str | Rule] | None" = None,
    redact_secret: str | None = None,
    lossless: bool | None = None,
    home: str | Path | None = None,
    tracer_provider: "TracerProvider | None" = None,
) -> None:
    """Send this process's trajectories to a collector, beside whatever OpenTelemetry the application has of its own.

    A second call replaces the first, whose records are flushed. ``IMITRACE_DISABLED=1`` leaves tracing off. Threads,
    pools and child processes started inside a trajectory belong to it. What is left when the process ends, also by
    SIGTERM, is sent for five seconds at most; a child made by ``os.fork`` that ends by ``os._exit`` calls ``flush()``
    before.

    Args:
        agent: agent name, also the resource's ``service.name``; else ``IMITRACE_AGENT``, else the service's name.
        endpoint: collector's base address, ``http://127.0.0.1:4318`` for http and ``:4317`` for grpc by default;
            else ``IMITRACE_ENDPOINT``, else ``OTEL_EXPORTER_OTLP_ENDPOINT`` with that one's headers and protocol.
        protocol: ``http`` (default) or ``grpc``; else ``IMITRACE_PROTOCOL``.
        token: bearer token for the collector; else ``IMITRACE_TOKEN``.
        policy_name: model that decides; when not given, the one that an answer names.
        policy_version: version of that model.
        policy_role: ``expert``, ``clone``, ``human`` or ``synthetic``.
        agent_version: version of the agent's code or prompt.
        sample: share of trajectories that are recorded, each whole or not at all; else ``IMITRACE_SAMPLE``, else what
            ``OTEL_TRACES_SAMPLER`` says, else 1.
        redact: names of rules, or rules of your own, for what is replaced by pseudonyms before anything leaves the
            process; else ``IMITRACE_REDACT``.
        redact_secret: secret of the pseudonyms; else ``IMITRACE_REDACT_SECRET``.
        lossless: keep what could not be sent in ``spool/`` of the workspace, also over a restart; else
            ``IMITRACE_LOSSLESS``.
        home: workspace folder; else ``IMITRACE_HOME``, else ``./.imitrace``.
        tracer_provider: the application's own provider, when its exporters are to see our spans too; its sampler
            and its limits then apply.

    Raises:
        ConfigError: an option is not one of those allowed.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    environment = opentelemetry_settings()
    if switched_on("IMITRACE_DISABLED") or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        shutdown()
        return
    try:
        from imitrace.otel_environment import connection
        from imitrace.pipeline import TracingConfig
    except ValueError as error:  # OpenTelemetry reads some of its variables when it is imported
        raise ConfigError(f"OpenTelemetry refuses its environment: {error}") from error

    lossless = switched_on("IMITRACE_LOSSLESS", lossless)
    config = TracingConfig(
        agent=setting("IMITRACE_AGENT", agent),
        agent_version=agent_version,
        policy_role=policy_role,
        policy_name=policy_name,
        policy_version=policy_version,
        sampler=_sampler(sample, environment),
        redactor=_redactor(redact, redact_secret),
        tracer_provider=tracer_provider,
        outbox=_outbox(environment, lossless),
    )
    where = (
        setting("IMITRACE_ENDPOINT", endpoint),
        setting("IMITRACE_PROTOCOL", protocol),
        setting("IMITRACE_TOKEN", token),
    )
    connections = connection("traces", environment, *where), connection("logs", environment, *where)
    spool_home = workspace_home(home) if lossless else None
    shutdown()
    _start(config, connections, spool_home, given if all(map(_is_plain, given.values())) else {})


def _start(
    config: "TracingConfig",
    connections: "tuple[Connection, Connection]",
    spool_home: Path | None,
    settings: Mapping[str, object],
) -> None:
    from imitrace.delivery.exporters import deliveries
    from imitrace.delivery.spool import SpoolConfig, spool_folder
    from imitrace.pipeline import Pipeline
    from imitrace.process_end import finish_at_exit
    from imitrace.workers import carry_into_workers

    traces, logs = connections
    spool = SpoolConfig(folder=spool_folder(spool_home, config.service())) if spool_home else None
    faults = Faults()
    pipeline = Pipeline(config, *deliveries(traces, spool, logs=logs, faults=faults), faults=faults)
    finish_at_exit()
    carry_into_workers()
    install(pipeline, traces.address, settings)


def _sampler(sample: float | None, environment: Mapping[str, str]) -> Sampler:
    said = setting("IMITRACE_SAMPLE", None if sample is None else str(sample))
    if said is None:
        return sampler_of(environment)
    try:
        return Sampler(float(said))
    except ValueError as error:
        raise ConfigError(f"sample is {said!r}, allowed: a number from 0 (nothing) to 1 (every trajectory)") from error


def _redactor(redact: "Sequence[str | Rule] | None", secret: str | None) -> "Redactor | None":
    named = setting("IMITRACE_REDACT") or ""
    rules = [name.strip() for name in named.split(",") if name.strip()] if redact is None else list(redact)
    if not rules:
        return None
    from imitrace.redaction.redactor import make_redactor

    return make_redactor(rules, setting("IMITRACE_REDACT_SECRET", secret))


def _outbox(environment: Mapping[str, str], lossless: bool) -> "OutboxConfig":
    from imitrace.delivery.outbox import OutboxConfig
    from imitrace.otel_environment import number

    default = OutboxConfig(**_LOSSLESS) if lossless else OutboxConfig()
    milliseconds = number(environment.get("OTEL_BSP_SCHEDULE_DELAY"), float, default.delay * 1000)
    return OutboxConfig(
        max_records=number(environment.get("OTEL_BSP_MAX_QUEUE_SIZE"), int, default.max_records),
        batch_records=number(environment.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"), int, default.batch_records),
        delay=min(milliseconds / 1000, _MAX_DELAY),
    )


def _is_plain(value: object) -> bool:
    """Tell whether another process can be given this setting."""
    return isinstance(value, str | int | float | Path) or (
        isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    )
