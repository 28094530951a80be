"""Open the queue of a workspace: the decisions to judge, what was said of them, and what its tools can do."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.frames import gather
from imitrace_trainer.kappas import Kappa, agreements
from imitrace_trainer.queue_items import Item, find_items
from imitrace_trainer.queue_ranking import Ranked, rank, risk_classes
from imitrace_trainer.queue_verdicts import Judgement, Label, Reviews, label, read_reviews
from imitrace_trainer.registry import Registry
from imitrace_trainer.seal import read_record
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_ledger import ToolRules, read_ledger


@dataclass(frozen=True)
class Queue:
    """What there is to judge, and what was judged."""

    items: Mapping[str, Item]
    """By id: those of the source, and those that were judged and are not in it any more."""
    reviews: Mapping[str, Reviews]
    """By agent."""
    risks: Mapping[str, Mapping[str, str]]
    """By agent: what people said of its tools."""
    irreversible: Mapping[str, frozenset[str]]
    """By agent: what its clones are told can't be undone."""

    @property
    def standing(self) -> dict[str, dict[str, Judgement]]:
        """What counts, by item and reviewer."""
        return {name: made for reviews in self.reviews.values() for name, made in reviews.standing.items()}

    def open(self, reviewer: str | None = None, again: bool = False) -> list[Item]:
        """Return what is to be judged, harmless ones included.

        Args:
            reviewer: who asks; None: anybody.
            again: give what others judged and this reviewer did not, so that it can be said how far they agree.
        """
        standing = self.standing
        if again:
            return [item for name, item in self.items.items() if name in standing and reviewer not in standing[name]]
        return [item for name, item in self.items.items() if name not in standing]

    def ranked(self, items: Sequence[Item], by: str = "rank", seed: int = 0) -> list[Ranked]:
        """Return items in the order in which a person should look at them; see ``rank``."""
        judged = [self.items[name] for name in self.standing if name in self.items]
        return rank(items, judged, risk_classes(self.risks, self.irreversible), by, seed)

    def find(self, name: str) -> Item:
        """Return the item of this id, or whose id alone begins so.

        Raises:
            ConfigError: there is none, or there are several.
        """
        found = [item for key, item in self.items.items() if key.startswith(name)] if name else []
        if len(found) != 1:
            told = f"{len(found)} items begin so" if found else "there is none such"
            raise ConfigError(f"item {name!r}: {told}; 'imitrace queue list' has the ids")
        return found[0]

    def labels(self) -> dict[str, Label]:
        """Return what each judged item comes to."""
        standing = self.standing
        return {name: label(made, self.items[name]) for name, made in standing.items() if name in self.items}

    def disputed(self) -> list[str]:
        """Return the items of which reviewers do not say the same, whatever most of them say."""
        return sorted(name for name, of in self.standing.items() if len({made.verdict for made in of.values()}) > 1)

    def agreements(self) -> dict[str, Kappa]:
        """Return how far reviewers agree beyond chance, each two and all."""
        return agreements({name: {who: made.verdict for who, made in of.items()} for name, of in self.standing.items()})

    def stats(self) -> dict[str, Any]:  # JSON
        """Return counts: what waits, what was said by whom, how long it took, and how far reviewers agree."""
        waiting, standing = self.open(), self.standing
        made = [one for of in standing.values() for one in of.values()]
        return {
            "waiting": _counted(item.kind for item in waiting if item.equivalent is None),
            "equivalent": _counted(str(item.equivalent) for item in waiting if item.equivalent is not None),
            "judged": len(standing),
            "verdicts": _counted(one.verdict for one in made),
            "reviewers": {
                who: {
                    "judged": sum(one.reviewer == who for one in made),
                    "minutes": round(sum(one.seconds or 0.0 for one in made if one.reviewer == who) / 60, 2),
                    "unmeasured": sum(one.reviewer == who and one.seconds is None for one in made),
                }
                for who in sorted({one.reviewer for one in made})
            },
            "agreement": {name: kappa.to_json() for name, kappa in self.agreements().items()},
            "disputed": self.disputed(),
            "broken_lines": sum(reviews.broken for reviews in self.reviews.values()),
        }


def open_queue(home: Path, frames: Frames, agent: str | None = None, low: float = 0.5) -> Queue:
    """Return the queue of what a source holds.

    Args:
        home: the workspace folder, with the verdicts and the tool ledger.
        frames: the tables of ``schema.TABLES`` by name.
        agent: whose decisions; None for everybody's.
        low: what a clone did with less confidence is asked about.

    Raises:
        DatasetError: a table or the verdicts can't be read.
        ConfigError: the tool ledger can't be read.
    """
    ledger = read_ledger(home)
    names = [agent] if agent is not None else _agents(frames)
    risks = {name: _risks(ledger.rules(name)) for name in names}
    reads = {name: {tool for tool, risk in told.items() if risk == "read"} for name, told in risks.items()}
    found = {item.id: item for item in find_items(frames, agent, low, reads)}
    reviews = {name: read_reviews(home, name) for name in names}
    for known in reviews.values():
        found = {**known.items, **found}
    return Queue(found, reviews, risks, irreversible_of_clones(home))


def irreversible_of_clones(home: Path) -> dict[str, frozenset[str]]:
    """Return by agent the tools that any version of its clones is told can't be undone."""
    registry, found = Registry(home), dict[str, frozenset[str]]()
    for name in registry.names():
        for version in registry.versions(name):
            try:
                record = read_record(registry.resolve(f"{name}:{version}").path)
                tools = frozenset(map(str, record["route"]["irreversible_tools"]))
            except (CloneError, LookupError, TypeError):
                continue
            whose = str(record.get("agent"))
            found[whose] = found.get(whose, frozenset()) | tools
    return found


def _risks(rules: ToolRules) -> dict[str, str]:
    """Return what was said of an agent's tools, what renamed ones inherit included."""
    return {**rules.risks, **dict.fromkeys(rules.irreversible, "irreversible")}


def _agents(frames: Frames) -> list[str]:
    found = gather({"agents": frames["steps"].select("agent").unique().sort("agent")})
    return list(found["agents"]["agent"])


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
