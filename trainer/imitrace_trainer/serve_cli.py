"""Offer the command that serves a clone: it parses, calls one function and prints."""

import sys
from pathlib import Path
from typing import Any

import click

from imitrace.config import read_config, setting, workspace_home
from imitrace.exceptions import ConfigError
from imitrace.stop_signals import StopSignals

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("clone", required=False)
@click.option("--upstream", help="The model's API  [default: IMITRACE_UPSTREAM, else OPENAI_BASE_URL]")
@click.option("--host", help="Address to listen on; others than loopback need a token.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8019]")
@click.option("--shadow", is_flag=True, default=None, help="The model answers always; the clone is only watched.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Tag of every trajectory, as cohort=common.")
@click.option("--agent", help="Agent's name in traces  [default: IMITRACE_AGENT, else the clone's agent]")
@click.option("--token-file", type=_FILE, help="File with the callers' token  [default: IMITRACE_SERVE_TOKEN]")
@click.option("--upstream-key-file", type=_FILE, help="File with the API's key  [default: IMITRACE_UPSTREAM_KEY]")
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without a token.")
@click.option("--config", "config_file", type=_FILE, help="Configuration file  [default: ./imitrace.toml]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
def serve(home: Path | None, config_file: Path | None, tags: tuple[str, ...], **given: Any) -> None:  # options by name
    """Serve CLONE (NAME, NAME@champion) as a proxy of the model's own API, until SIGINT or SIGTERM.

    An agent adopts it by changing its client's base_url. The clone answers where it is trusted; every other request
    goes to the model as it came. Both are recorded as steps of trajectories, for the collector at IMITRACE_ENDPOINT.
    Without CLONE the model answers always, and is recorded.

    \b
    Examples:
      imitrace serve support --upstream https://api.openai.com/v1
      OPENAI_BASE_URL=http://127.0.0.1:8019/v1 python my_agent.py
      imitrace serve support@candidate --shadow --tag cohort=common
      imitrace serve support --host 0.0.0.0 --token-file token.txt --upstream-key-file key.txt
    """
    import imitrace
    from imitrace_trainer.serving.config import serve_config
    from imitrace_trainer.serving.server import ProxyServer
    from imitrace_trainer.serving.tracing import agent_of, keep_pace

    key, token = _line(given.pop("upstream_key_file")), _line(given.pop("token_file"))
    said = {
        **given,
        "upstream": setting("IMITRACE_UPSTREAM", given["upstream"]),
        "token": setting("IMITRACE_SERVE_TOKEN", token),
        "upstream_key": setting("IMITRACE_UPSTREAM_KEY", key),
        "tags": dict(map(_pair, tags)) or None,
    }
    config = serve_config({**said, "home": workspace_home(home)}, read_config(config_file).get("serve", {}))
    stop = StopSignals()
    imitrace.configure(agent=setting("IMITRACE_AGENT", config.agent) or agent_of(config), home=config.home)
    with ProxyServer(config) as server:
        keep_pace()
        click.echo(server.ready_line())
        sys.stdout.flush()
        stop.wait()
    imitrace.shutdown()


def _line(path: Path | None) -> str | None:
    """Return a secret that a file holds.

    Raises:
        ConfigError: the file can't be read, or is empty.
    """
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {type(error).__name__}") from error
    if not text:
        raise ConfigError(f"{path} is empty, expected a secret in one line")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"tag is {text!r}, expected NAME=VALUE")
    return name, value
