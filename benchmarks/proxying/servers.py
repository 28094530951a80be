"""Start the model, the proxies before it, and LiteLLM's proxy as it comes; ask each whether it is ready."""

import http.client
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from overhead import peer_venvs
from overhead.config import clean_environment
from overhead.peer_venvs import python_of

HERE = Path(__file__).parents[1]
LITELLM = "litellm"
CONFIGURED = "litellm --num_workers 1, one model, no database, telemetry off, logging of errors only"
_START_SECONDS, _STOP_SECONDS, _LOOK = 180.0, 20.0, 0.1
_SHOWN = 600
_MASTER_KEY = f"sk-{secrets.token_hex(24)}"
"""LiteLLM does not start without one."""


class Running(NamedTuple):
    """A server that runs."""

    port: int
    process: "subprocess.Popen[bytes]"
    headers: Mapping[str, str]
    """What requests must carry."""


@contextmanager
def model() -> Iterator[int]:
    """Run the model's API and yield its port."""
    command = [sys.executable, "-m", "proxying.model"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=HERE, stdin=pipe, stdout=pipe, env=clean_environment()) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()


@contextmanager
def imitrace(upstream: int, home: Path, *options: str) -> Iterator[Running]:
    """Run ``imitrace serve`` and yield it when its clone is loaded."""
    port = free_port()
    words = [
        "serve",
        "lamps:1",
        "--home",
        str(home),
        "--port",
        str(port),
        "--upstream",
        f"http://127.0.0.1:{upstream}/v1",
    ]
    environment = {"IMITRACE_ENDPOINT": f"http://127.0.0.1:{upstream}", "PYTHONPATH": ":".join(sys.path)}

    def ready() -> bool:
        return "loading" not in _get(port, "/readyz")["clone"]["reason"]

    with _started([sys.executable, "-m", "imitrace", *words, *options], environment, ready, home) as process:
        yield Running(port, process, {})


@contextmanager
def litellm(upstream: int, folder: Path) -> Iterator[Running]:
    """Run LiteLLM's proxy and yield it when it says that it lives."""
    port, config = free_port(), folder / "litellm.yaml"
    parameters = {"model": "openai/gpt", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    described = {
        "model_list": [{"model_name": "gpt", "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "set_verbose": False},
        "general_settings": {"master_key": _MASTER_KEY},
    }
    config.write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    words = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]

    def ready() -> bool:
        return bool(_get(port, "/health/liveliness"))

    with _started([str(python_of(LITELLM).parent / "litellm"), *words], quiet, ready, folder) as process:
        yield Running(port, process, {"authorization": f"Bearer {_MASTER_KEY}"})


def install() -> None:
    """Install LiteLLM's newest release into a virtual environment of its own."""
    peer_venvs.install(LITELLM, ("litellm[proxy]",))


def version() -> str | None:
    """Return which release of LiteLLM is installed, None if there is none."""
    if not (python_of(LITELLM).parent / "litellm").exists():
        return None
    asked = "import importlib.metadata as found; print(found.version('litellm'))"
    command = [str(python_of(LITELLM)), "-c", asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], ready: Callable[[], bool], folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    log = folder / f"{free_port()}.log"
    with log.open("wb") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=printed, env={**clean_environment(), **environment})
    try:
        _wait_until(ready, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            if ready():
                return
        except (OSError, ValueError):
            pass
        if process.poll() is not None or time.monotonic() > until:
            text = log.read_text(encoding="utf-8", errors="replace")
            raise ConnectionError(f"a proxy did not start: {text[-_SHOWN:]}")
        threading.Event().wait(_LOOK)


def _get(port: int, path: str) -> Any:  # JSON
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ConnectionError(f"{path} answers {answer.status}")
        return json.loads(content)
    finally:
        connection.close()
