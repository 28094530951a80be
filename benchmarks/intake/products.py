"""Say of the collector, and of the servers beside it, how to start them as they come and how to ask what they have."""

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import pyarrow as pa

from overhead import peer_venvs
from overhead.peer_venvs import python_of

COUNT = "SELECT count(*) FROM spans"


class Ports(NamedTuple):
    http: int
    grpc: int


class Launch(NamedTuple):
    command: list[str]
    environment: Mapping[str, str] = {}


class Asking(Protocol):
    """A server that runs."""

    @property
    def log(self) -> str:
        """Return what it printed."""

    def ask(self, path: str, body: object = None) -> Any:  # JSON
        """Return what a path answers to a GET, or to a JSON body."""


class Product(Protocol):
    """A server that takes OTLP."""

    name: str
    configured: str
    headers: Mapping[str, str]
    """What requests must carry."""
    warming: int
    """How many requests it takes until none is slower for being the first one of a process."""

    def launch(self, home: Path, ports: Ports) -> Launch:
        """Return what starts it on a new store in the folder ``home``."""

    def ready(self, server: Asking) -> bool:
        """Return whether it takes requests."""

    def can_read(self, server: Asking, spans: int) -> bool:
        """Return whether its own query API tells of that many spans."""

    def stored(self, home: Path) -> int:
        """Return how many spans its store holds, after it has stopped."""


class Imitrace:
    name = "imitrace"
    configured = "imitrace collect"
    headers: Mapping[str, str] = {}
    warming = 8

    def launch(self, home: Path, ports: Ports) -> Launch:
        where = ["--home", str(home), "--http-port", str(ports.http), "--grpc-port", str(ports.grpc)]
        return Launch([sys.executable, "-m", "imitrace", "collect", *where])

    def ready(self, server: Asking) -> bool:
        return "collector ready" in server.log

    def can_read(self, server: Asking, spans: int) -> bool:
        answer = server.ask("/v1/sql", {"sql": COUNT})
        count: int = answer["rows"][0][0]
        return count >= spans

    def derive(self, server: Asking) -> None:
        """Ask for a fresh trajectory: such a read waits until all that was acknowledged is derived, or is refused."""
        server.ask("/v1/trajectories?limit=1&fresh=1")

    def complete(self, server: Asking) -> tuple[int, int]:
        """Return how many trajectories can be read, and how many of them are complete."""
        with pa.ipc.open_stream(server.ask("/v1/tables/trajectories")) as stream:
            complete = stream.read_all().column("complete").to_pylist()
        return len(complete), sum(complete)

    def stored(self, home: Path) -> int:
        with duckdb.connect(str(home / "traces.duckdb"), read_only=True) as store:
            return int(store.execute(COUNT).fetchall()[0][0])


class MLflow:
    name = "mlflow"
    configured = "mlflow server, SQLite, four workers as it comes; background jobs off, which only takes load from it"
    headers: Mapping[str, str] = {"x-mlflow-experiment-id": "0"}
    warming = 8

    def launch(self, home: Path, ports: Ports) -> Launch:
        store = [
            "--backend-store-uri",
            f"sqlite:///{home / 'mlflow.db'}",
            "--default-artifact-root",
            str(home / "files"),
        ]
        return Launch(
            [_program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(ports.http), *store],
            {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )

    def ready(self, server: Asking) -> bool:
        return _answers(server, "/health")

    def can_read(self, server: Asking, spans: int) -> bool:
        asked = {"view_type": "SPANS", "metric_name": "span_count", "aggregations": [{"aggregation_type": "COUNT"}]}
        answer = server.ask("/api/3.0/mlflow/traces/metrics", {"experiment_ids": ["0"], **asked})
        count: float = answer["data_points"][0]["values"]["COUNT"]
        return count >= spans

    def stored(self, home: Path) -> int:
        return _sqlite(home / "mlflow.db")


class Phoenix:
    name = "phoenix"
    configured = "phoenix serve, SQLite"
    headers: Mapping[str, str] = {}
    warming = 2

    def launch(self, home: Path, ports: Ports) -> Launch:
        where = {"WORKING_DIR": str(home), "HOST": "127.0.0.1", "PORT": str(ports.http), "GRPC_PORT": str(ports.grpc)}
        quiet = {"TELEMETRY_ENABLED": "false"}
        return Launch([_program("phoenix"), "serve"], {f"PHOENIX_{name}": is_ for name, is_ in (where | quiet).items()})

    def ready(self, server: Asking) -> bool:
        return _answers(server, "/healthz")

    def can_read(self, server: Asking, spans: int) -> bool:
        found = server.ask("/graphql", {"query": "{projects {edges {node {recordCount}}}}"})["data"]["projects"][
            "edges"
        ]
        count: int = sum(edge["node"]["recordCount"] for edge in found)
        return count >= spans

    def stored(self, home: Path) -> int:
        return _sqlite(home / "phoenix.db")


PEERS: tuple[Product, ...] = (MLflow(), Phoenix())
_PACKAGES = {"mlflow": "mlflow", "phoenix": "arize-phoenix"}


def install(name: str) -> None:
    """Install a peer's newest release into a virtual environment of its own."""
    peer_venvs.install(name, (_PACKAGES[name],))


def version(name: str) -> str | None:
    """Return which release of a peer is installed, None if there is none."""
    if not Path(_program(name)).exists():
        return None
    asked = f"import importlib.metadata as found; print(found.version({_PACKAGES[name]!r}))"
    command = [str(python_of(name)), "-c", asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _program(name: str) -> str:
    return str(python_of(name).parent / name)


def _answers(server: Asking, path: str) -> bool:
    try:
        server.ask(path)
    except (OSError, ValueError):
        return False
    return True


def _sqlite(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return int(store.execute(COUNT).fetchall()[0][0])
