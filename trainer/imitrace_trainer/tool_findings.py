"""Compare what agents' tools were with what they are, and with what people decided about them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from imitrace.exceptions import ConfigError
from imitrace_trainer.tool_changes import Change, changes
from imitrace_trainer.tool_contracts import Contract, Contracts, moment
from imitrace_trainer.tool_ledger import Ledger, ToolDecision, ToolRules


@dataclass(frozen=True)
class Finding:
    """One thing that became of a tool."""

    agent: str
    tool: str
    kind: Literal["vanished", "changed", "stale"]
    """It is offered no more; its contract is another; or it is offered still, although it is retired."""
    called: int
    """How many recorded calls it concerns."""
    changes: tuple[Change, ...] = ()
    """What is different."""
    open: tuple[str, ...] = ()
    """What breaks recorded calls and nobody has decided on."""
    old: str | None = None
    """The older contract's hash."""
    new: str | None = None
    """The one in force."""
    text: str = ""
    """In words."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        told = [{**asdict(change), "text": str(change)} for change in self.changes]
        return {**asdict(self), "changes": told, "open": [*self.open], "blocks": bool(self.open)}


def find_changes(contracts: Contracts, ledger: Ledger, agent: str | None = None) -> list[Finding]:
    """Return what became of the tools of an agent, or of all agents; what is undecided has something ``open``."""
    agents = contracts.agents() if agent is None else [agent]
    return [finding for whose in agents for finding in _of_agent(contracts, ledger.rules(whose), whose)]


def describe_finding(finding: Finding) -> str:
    """Return what became of a tool in a few lines; what is undecided is marked."""
    lines = [f"{finding.agent}  {finding.tool}  {finding.kind}: {finding.text}"]
    lines += [f"  {'! ' if str(change) in finding.open else '  '}{change}" for change in finding.changes]
    if finding.open and finding.kind == "vanished":
        lines.append(
            f"  ! undecided: imitrace tools rename {finding.tool} NEW, or imitrace tools deprecate {finding.tool}"
        )
    elif finding.open:
        lines.append(f"  ! undecided: imitrace tools map {finding.tool} ..., see imitrace tools map --help")
    return "\n".join(lines)


def complete_decision(made: ToolDecision, contracts: Contracts) -> ToolDecision:
    """Return a decision with the contracts that it reads and writes, as far as they were seen.

    Raises:
        ConfigError: the agent, the tool, or a new name, was never seen, or there is no older contract to map.
    """
    agents = contracts.agents()
    if made.agent is not None and made.agent not in agents:
        raise ConfigError(f"agent {made.agent!r} was never seen, seen: {', '.join(agents) or 'none'}")
    _seen(made.tool, made, contracts)
    if made.kind not in ("rename", "map"):
        return made
    name = made.tool if made.to is None else _seen(made.to, made, contracts)
    known = _defined(contracts, made, name)
    by_agent = {c.agent: contracts.current(c.agent)[name].schema_hash or "" for c in known}
    newest = set(by_agent.values())
    target = next(iter(newest)) if len(newest) == 1 else None
    if made.kind == "rename":
        return replace(made, target=target)
    old = {c.schema_hash or "" for c in known} - newest
    if not old and target is None:
        told = ", ".join(f"{agent} {schema[:9]}" for agent, schema in sorted(by_agent.items()))
        raise ConfigError(f"tool {name!r} has another contract in force for each agent ({told}): name one by --agent")
    if not old:
        raise ConfigError(f"tool {name!r} was only ever seen with one contract: there is nothing to map")
    return replace(made, target=target, sources=tuple(sorted(old)))


def unmapped(made: ToolDecision, contracts: Contracts) -> list[Change]:
    """Return the breaking changes that a rename's or a map's arguments leave open: calls with these are masked."""
    left: dict[str, Change] = {}
    if made.kind not in ("rename", "map"):
        return []
    for contract in _defined(contracts, made, made.tool):
        new = contracts.current(contract.agent).get(made.to or made.tool)
        if new is not None and new is not contract and contract.called:
            found = changes(contract.definition or {}, new.definition or {})
            left |= {str(change): change for change in made.arguments.lacks(found)}
    return [*left.values()]


def _of_agent(contracts: Contracts, rules: ToolRules, agent: str) -> Iterator[Finding]:
    current = contracts.current(agent, rules.superseded)
    gone = contracts.vanished(agent)
    for name, contract in sorted(current.items()):
        known = [c for c in contracts.of(agent, name) if c.schema_hash is not None]
        called = sum(c.called for c in contracts.of(agent, name))
        retired = name in rules.retired
        if name in gone:
            last = moment(max(c.last_seen for c in known))
            told = f"not offered in {gone[name]} trajectories since {last}, called {called} times before"
            undecided = ("not offered any more",) if called and not retired else ()
            yield Finding(agent, name, "vanished", called, open=undecided, old=contract.schema_hash, text=told)
        elif retired:
            told = f"{rules.state(name)}, but offered still, last {moment(contract.last_seen)}"
            yield Finding(agent, name, "stale", called, old=contract.schema_hash, text=told)
        if name in rules.renamed:
            yield from _renamed(known, rules, current)
        elif not retired and name not in gone:
            yield from _changed([c for c in known if c is not contract], contract, rules)


def _changed(older: list[Contract], newest: Contract, rules: ToolRules) -> Iterator[Finding]:
    for contract in older:
        found = changes(contract.definition or {}, newest.definition or {})
        moves = [m for m in rules.maps.get(newest.name, ()) if contract.schema_hash in m.sources or not m.sources]
        yield _finding(contract, newest, found, moves)


def _renamed(known: list[Contract], rules: ToolRules, current: dict[str, Contract]) -> Iterator[Finding]:
    """Yield what a rename leaves open: the new name's contract may want other arguments."""
    name = known[0].name
    newest = current.get(rules.name_now(name))
    if newest is None or newest.name in rules.deprecated:
        return
    moves: list[ToolDecision] = []
    while name in rules.renamed:
        moves += [*rules.maps.get(name, ()), rules.renamed[name]]
        name = rules.renamed[name].to or ""
    moves += rules.maps.get(name, ())
    for contract in known:
        found = [change for change in changes(contract.definition or {}, newest.definition or {}) if change.breaking]
        finding = _finding(contract, newest, found, moves)
        if finding.open:
            yield finding


def _finding(contract: Contract, newest: Contract, found: list[Change], moves: list[ToolDecision]) -> Finding:
    left = [change for change in found if change.breaking]
    for move in moves:
        left = move.arguments.lacks(left)
    undecided = tuple(map(str, left)) if contract.called else ()
    since = f"as {newest.name!r} " if newest.name != contract.name else ""
    told = f"another contract {since}since {moment(newest.first_seen)}, {contract.called} calls under the older one"
    return Finding(
        contract.agent,
        contract.name,
        "changed",
        contract.called,
        tuple(found),
        undecided,
        contract.schema_hash,
        newest.schema_hash,
        told,
    )


def _defined(contracts: Contracts, made: ToolDecision, name: str) -> list[Contract]:
    return [c for c in contracts.of(made.agent, name) if c.schema_hash is not None]


def _seen(name: str, made: ToolDecision, contracts: Contracts) -> str:
    found = contracts.of(made.agent, name) if made.kind != "map" and name == made.tool else None
    if not (_defined(contracts, made, name) if found is None else found):
        known = ", ".join(sorted({c.name for c in contracts.of(made.agent)})) or "none"
        whose = f" by agent {made.agent!r}" if made.agent else ""
        raise ConfigError(f"tool {name!r} was never seen{whose}, seen: {known}")
    return name
