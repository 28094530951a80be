"""Offer the commands about tools: what was seen of them, what changed, and what is decided."""

import getpass
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import workspace_home
from imitrace.exceptions import ConfigError

if TYPE_CHECKING:
    from imitrace_trainer.tool_contracts import Contract, Contracts
    from imitrace_trainer.tool_ledger import Ledger, ToolDecision

_Command = Callable[..., None]

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_SOURCE = click.option(
    "--source", help="Where the traces are: a snapshot folder, a .duckdb file, or a collector's http:// address."
)
_AGENT = click.option("--agent", help="Only this agent's tools.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _deciding(command: _Command) -> _Command:
    for option in (
        click.option("--why", default="", help="The reason, for those who read the history."),
        click.option("--by", help="Who decides [default: the user who runs this]."),
        click.option("--agent", help="Only this agent's tool [default: every agent's tool of this name]."),
        _SOURCE,
        _HOME,
        _JSON,
    ):
        command = option(command)
    return command


def _mapping(command: _Command) -> _Command:
    for option in (
        click.option("--accept", is_flag=True, help="Mask the calls that do not fit the new contract."),
        click.option("--constant", multiple=True, metavar="NAME=VALUE", help="Give every call this value."),
        click.option("--default", multiple=True, metavar="NAME=VALUE", help="Give calls without one this value."),
        click.option("--value", multiple=True, metavar="NAME:OLD=NEW", help="Put a value in another's place."),
        click.option("--drop", multiple=True, metavar="NAME", help="Leave an argument out."),
        click.option("--argument", multiple=True, metavar="OLD=NEW", help="Rename an argument."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_AGENT
@_SOURCE
@_HOME
@_JSON
@click.pass_context
def tools(ctx: click.Context, agent: str | None, source: str | None, home: Path | None, as_json: bool) -> None:
    """List every tool contract ever seen; say what becomes of old tools.

    \b
    Examples:
      imitrace tools --agent airline
      imitrace tools diff
      imitrace tools deprecate transfer_to_human --why "the desk closed"
      imitrace tools rename get_order find_order --argument order=order_id
      imitrace tools map refund --default reason=unwanted --value reason:broken=damaged
      imitrace tools risk refund irreversible
      imitrace tools restore transfer_to_human
    """
    if ctx.invoked_subcommand is not None:
        given = {"--agent": agent, "--source": source, "--home": home, "--json": as_json or None}
        early = next((name for name, value in given.items() if value is not None), None)
        if early:
            raise click.UsageError(f"write {early} behind '{ctx.invoked_subcommand}'", ctx)
        return
    contracts, ledger = _open(home, source)
    found = _of_agent(contracts, agent)
    if as_json:
        click.echo(json.dumps(_listing(found, contracts, ledger), indent=1, ensure_ascii=False))
    else:
        click.echo(describe_contracts(found, contracts, ledger))


@tools.command()
@_AGENT
@_SOURCE
@_HOME
@_JSON
def diff(agent: str | None, source: str | None, home: Path | None, as_json: bool) -> None:
    """Say what changed about tools. Exits 1 while a change that breaks recorded calls is undecided.

    Where nothing is undecided, that is noted as evidence for the clones of these agents.

    \b
    Examples:
      imitrace tools diff
      imitrace tools diff --agent airline --json
    """
    from imitrace_trainer.tool_findings import describe_finding, find_changes

    contracts, ledger = _open(home, source)
    _of_agent(contracts, agent)
    found = find_changes(contracts, ledger, agent)
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in found], indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(map(describe_finding, found)) or "no tool has vanished or changed")
    if any(finding.open for finding in found):
        sys.exit(1)
    from imitrace_trainer.refresh import note_tools_checked

    note_tools_checked(workspace_home(home), agent)


@tools.command()
@click.argument("tool")
@_deciding
def deprecate(tool: str, **options: Any) -> None:
    """Retire TOOL: clones call it no more, and its recorded calls are not learned.

    \b
    Examples:
      imitrace tools deprecate transfer_to_human --why "the desk closed"
    """
    _decide({"kind": "deprecate", "tool": tool}, options)


@tools.command()
@click.argument("tool")
@click.argument("new")
@_mapping
@_deciding
def rename(tool: str, new: str, **options: Any) -> None:
    """Say that TOOL is called NEW now: its recorded calls are learned as calls of NEW.

    \b
    Examples:
      imitrace tools rename get_order find_order
      imitrace tools rename get_order find_order --argument order=order_id --drop verbose
    """
    _decide({"kind": "rename", "tool": tool, "to": new}, options)


@tools.command("map")
@click.argument("tool")
@_mapping
@_deciding
def map_(tool: str, **options: Any) -> None:
    """Say how the arguments of TOOL's older contracts become those of its newest. A VALUE is JSON, or else text.

    Renames come first, then what is dropped, other values, defaults, constants. Calls that still don't fit are masked.

    \b
    Examples:
      imitrace tools map refund --argument order=order_id --value reason:broken=damaged
      imitrace tools map refund --default amount=0 --constant currency=EUR --drop note
      imitrace tools map refund --accept
    """
    _decide({"kind": "map", "tool": tool}, options)


@tools.command()
@click.argument("tool")
@_deciding
def restore(tool: str, **options: Any) -> None:
    """Take back that TOOL was deprecated, renamed or mapped.

    \b
    Examples:
      imitrace tools restore transfer_to_human --why "it is back"
    """
    _decide({"kind": "restore", "tool": tool}, options)


@tools.command()
@click.argument("tool")
@click.argument("risk", metavar="[read|reversible|irreversible]")
@_deciding
def risk(tool: str, risk: str, **options: Any) -> None:
    """Say what a wrong call of TOOL costs; clones must be surer of an irreversible one.

    \b
    Examples:
      imitrace tools risk find_order read
      imitrace tools risk refund irreversible --agent airline
    """
    from imitrace_trainer.tool_ledger import RISKS

    if risk not in RISKS:
        raise ConfigError(f"risk of tool {tool!r} is {risk!r}, allowed: {', '.join(RISKS)}")
    _decide({"kind": "risk", "tool": tool, "risk": risk}, options)


def describe_contracts(found: "list[Contract]", contracts: "Contracts", ledger: "Ledger") -> str:
    """Return contracts as a table, the newest of each tool marked by what it is now."""
    if not found:
        return "no tool was ever offered or called: trace an agent with tools first"
    head = ["agent", "tool", "contract", "offered", "called", "first seen", "last seen", "now"]
    rows = [
        [
            *(row["agent"], row["name"], (row["schema_hash"] or "undefined")[:9]),
            *(f"{row['offered']:,}", f"{row['called']:,}"),
            *(row["first_seen"][:16], row["last_seen"][:16], row["now"]),
        ]
        for row in _listing(found, contracts, ledger)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def describe_decision(made: "ToolDecision") -> str:
    """Return a decision in one line."""
    what = {"rename": f" to {made.to}", "risk": f" {made.risk}"}.get(made.kind, "")
    told = json.dumps(made.arguments.to_json(), ensure_ascii=False) if made.arguments else ""
    whose = f" of agent {made.agent}" if made.agent else ""
    return " ".join(filter(None, [f"{made.kind} {made.tool}{what}{whose}", told, f"({made.by}, {made.at})"]))


def _open(home: Path | None, source: str | None) -> "tuple[Contracts, Ledger]":
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source
    from imitrace_trainer.tool_contracts import find_contracts
    from imitrace_trainer.tool_ledger import read_ledger

    folder = workspace_home(home)
    with at_hand(open_source(source, folder), folder) as opened:
        return find_contracts(opened.frames()), read_ledger(folder)


def _of_agent(contracts: "Contracts", agent: str | None) -> "list[Contract]":
    if agent is not None and agent not in contracts.agents():
        raise ConfigError(f"agent {agent!r} was never seen with tools, seen: {', '.join(contracts.agents()) or 'none'}")
    return contracts.of(agent)


def _listing(found: "list[Contract]", contracts: "Contracts", ledger: "Ledger") -> list[dict[str, Any]]:
    rows = []
    for contract in found:
        rules = ledger.rules(contract.agent)
        current = contracts.current(contract.agent, rules.superseded).get(contract.name)
        age = "never offered" if contract.schema_hash is None else "current" if contract == current else "older"
        gone = age == "current" and contract.name in contracts.vanished(contract.agent)
        told = rules.state(contract.name) if age == "current" else ""
        rows.append({**contract.to_json(), "now": ", ".join(filter(None, ["vanished" if gone else age, told]))})
    return rows


def _decide(told: dict[str, Any], options: dict[str, Any]) -> None:
    from imitrace_trainer.argument_maps import ArgumentMap
    from imitrace_trainer.tool_findings import complete_decision, unmapped
    from imitrace_trainer.tool_ledger import ToolDecision, record_decision

    folder = workspace_home(options["home"])
    arguments = ArgumentMap.parse(options, accept=bool(options.get("accept")))
    if told["kind"] == "map" and not arguments:
        raise ConfigError(
            f"the map of tool {told['tool']!r} is empty: give --argument, --drop, --value, --default or --constant, "
            "or --accept to mask the calls that do not fit"
        )
    made = ToolDecision(
        **told,
        arguments=arguments,
        agent=options["agent"],
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=options["by"] or _user(),
        why=options["why"],
    )
    left: list[str] = []
    if made.kind != "restore":
        contracts, _ = _open(folder, options["source"])
        made = complete_decision(made, contracts)
        left = list(map(str, unmapped(made, contracts)))
    record_decision(folder, made)
    if options["as_json"]:
        click.echo(json.dumps({**made.to_json(), "unmapped": left}, indent=1, ensure_ascii=False))
        return
    click.echo(describe_decision(made))
    for change in left:
        click.echo(f"  not mapped, calls that do not fit are masked: {change}")


def _user() -> str:
    with suppress(OSError, KeyError, ImportError):  # a container may run as nobody of a name
        return getpass.getuser()
    return "unknown"
