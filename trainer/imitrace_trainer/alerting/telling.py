"""Tell what began to stand against clones and what ended, each once, by every channel there is; never fail for it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imitrace.config import opentelemetry_settings, setting
from imitrace.exceptions import ImitraceError
from imitrace_trainer.alerting.alert_file import Alert, AlertFile, followed
from imitrace_trainer.alerting.config import AlertsConfig
from imitrace_trainer.alerting.otlp_events import send_event, send_gauge, wanted
from imitrace_trainer.alerting.standing import standing
from imitrace_trainer.alerting.webhook import post
from imitrace_trainer.progress import tell

WEBHOOK: Final = "webhook"
OTLP: Final = "otlp"
TEST: Final = "imitrace.test"


@contextmanager
def told_afterwards(home: Path, config: Mapping[str, Any], *, silent: bool = False) -> Iterator[None]:
    """Tell what stands when a command is done, however it ended.

    Args:
        home: the workspace.
        config: of ``imitrace.toml``.
        silent: tell nothing: the command changes nothing.
    """
    try:
        yield
    finally:
        if not silent:
            for problem in tell_alerts(home, config):
                tell(problem)


def tell_alerts(home: Path, config: Mapping[str, Any]) -> list[str]:
    """Tell what began and what ended since the last call, and return what went wrong; it raises nothing.

    What a channel did not take is tried again at the next call, and other channels are not told twice.

    Args:
        home: the workspace.
        config: of ``imitrace.toml``.
    """
    try:
        return _told(home, AlertsConfig.from_config(config))
    except (ImitraceError, OSError) as error:
        return [f"alerts: {error}"]
    except Exception as error:  # whatever a channel does, the command's own outcome counts
        return [f"alerts: {type(error).__name__}: {error}"]


def try_alert(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Send an alert that means nothing, and return by channel why it was not taken, None where it was.

    Raises:
        ConfigError: the ``[alerts]`` table is wrong.
    """
    alerts = AlertsConfig.from_config(config)
    alert = Alert(name=TEST, clone="none", about="", why="imitrace alerts test", since=_now())
    return {channel: _sent(channel, alerts, alert) for channel in channels(alerts)}


def channels(config: AlertsConfig) -> list[str]:
    """Return by which channels is told."""
    otlp = [OTLP] if wanted(opentelemetry_settings()) else []
    return ([WEBHOOK] if config.webhook else []) + otlp


def _told(home: Path, config: AlertsConfig) -> list[str]:
    conditions, problems = standing(home)
    file, known = AlertFile(home), channels(config)
    if not conditions and not file.path.exists():
        return problems
    with file.held() as before:
        alerts = followed(before, conditions, _now(), ending=not problems)  # what can't be read may still stand
        file.write(alerts)
        changed = alerts != before
        for place, alert in enumerate(alerts):
            for channel in alert.owed(known):
                problem = _sent(channel, config, alert)
                if problem is None:
                    alerts[place] = alerts[place].knows(channel)
                    file.write(alerts)
                else:
                    problems.append(f"alert {alert.key} was not told: {problem}; the next call tries again")
        file.write([alert for alert in alerts if alert.ended is None or alert.owed(known)])
    if changed and OTLP in known:
        _gauge(alerts)
    return problems


def _sent(channel: str, config: AlertsConfig, alert: Alert) -> str | None:
    told = {key: getattr(alert, key) for key in ("name", "state", "clone", "about", "why", "since", "ended")}
    if channel == OTLP:
        return send_event(opentelemetry_settings(), told, time.time_ns())
    secrets = setting("IMITRACE_ALERTS_TOKEN"), setting("IMITRACE_ALERTS_SECRET")
    return post(config, {"format": 1, **told}, int(time.time()), secrets)


def _gauge(alerts: Sequence[Alert]) -> None:
    """Send how many stand; a place that keeps no metrics is no problem, since the events say the same."""
    counts = Counter({(alert.name, alert.clone): 0 for alert in alerts})
    counts.update((alert.name, alert.clone) for alert in alerts if alert.ended is None)
    send_gauge(opentelemetry_settings(), counts, time.time_ns())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
