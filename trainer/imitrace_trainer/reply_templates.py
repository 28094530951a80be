"""Mine the replies that an expert gives again and again: what stays the same is text, what changes is a slot.

Replies are grouped by their skeletons, in which whatever looks like a value is a typed slot; groups that differ only in
words copied from the conversation become one, and so do groups in nearly the same words. What looks like a value and is
none that the conversation holds is never text of a template: such a template is refused, so that no clone tells one
person what is another's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import view_state
from imitrace_trainer.reading import Reader, Scalar, value_key
from imitrace_trainer.reply_skeletons import ALIKE, Scanner, Skeleton, alike, bag, generalised
from imitrace_trainer.reply_slots import KINDS, ReplyTemplate

_MAX_TEXT = 1_200
_MAX_TEMPLATES = 200
_MAX_SLOTS = 6
_MAX_BLOCK = 40
"""Groups that one is compared with at most, among those that begin and end alike."""
_MAX_NEAR = 400
"""Groups that one is compared with at most, among those with the same slots."""
_COPIED = 0.9
"""Share of a slot's values that the conversation must hold."""
_SMALL = 1_000
"""Numbers below it may be text, as in «24 hours»."""

Values = dict[str, Scalar]


@dataclass
class Mined:
    """What was found in an expert's replies."""

    scanner: Scanner
    reader: Reader
    """Reads states as it did for mining."""
    templates: list[ReplyTemplate] = field(default_factory=list)
    """The most frequent first."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason: groups of replies that were given in enough tasks and became no template."""
    _bags: dict[ReplyTemplate, Counter[str]] = field(default_factory=dict)

    def label(self, text: str) -> tuple[ReplyTemplate, Values] | None:
        """Return the template that a reply fits, to the letter or nearly, and its values; None: it fits none."""
        if len(text) > _MAX_TEXT:
            return None
        for template in self.templates:
            values = template.read(text)
            if values is not None:
                return template, values
        skeleton = self.scanner.scan(text)
        near = [(self._alike(template, skeleton), template) for template in self.templates]
        likeness, best = max(near, key=lambda one: one[0], default=(0.0, None))
        values = _values(best, skeleton) if best is not None and likeness >= ALIKE else None
        return None if best is None or values is None else (best, values)

    def fits(self, text: str) -> bool:
        """Tell whether a reply is to the letter what some template says."""
        return len(text) <= _MAX_TEXT and any(template.read(text) is not None for template in self.templates)

    def _alike(self, template: ReplyTemplate, skeleton: Skeleton) -> float:
        if template not in self._bags:
            self._bags[template] = bag(_skeleton(template).tokens)
        return alike(self._bags[template], bag(skeleton.tokens)) if _kinds(skeleton) == template.kinds else 0.0


@dataclass(frozen=True)
class _Group:
    skeleton: Skeleton
    members: list[int]


def mine(demonstrations: Sequence[Demonstration], reader: Reader, least: int = 3) -> Mined:
    """Return the templates of replies that were given in at least ``least`` tasks.

    Args:
        demonstrations: the expert's decisions; those that are no replies are left out.
        reader: reads states.
        least: tasks that a template must be from, and different values that a copied phrase must have.
    """
    said = [one for one in demonstrations if one.action.message and len(one.action.message) <= _MAX_TEXT]
    miner = _Miner(said, reader, least)
    mined = Mined(miner.scanner, reader)
    found: Counter[ReplyTemplate] = Counter()
    for group in miner.near(miner.merged(miner.groups())):
        for template, members in miner.settled(group, mined.refused):
            found[template] += len(members)
    mined.templates = sorted(found, key=lambda one: (-found[one], one.text))[:_MAX_TEMPLATES]
    return mined


class _Miner:
    def __init__(self, said: Sequence[Demonstration], reader: Reader, least: int) -> None:
        self._said, self._reader, self._least = said, reader, least
        self._texts = [one.action.message or "" for one in said]
        tools = {tool["name"]: tool for one in said for tool in one.state.tools}.values()
        described = (
            f"{tool['name']} {' '.join((tool.get('parameters') or {}).get('properties') or ())}" for tool in tools
        )
        self.scanner = Scanner([(one.action.message or "", one.task) for one in said], described, least)
        self._skeletons = list(map(self.scanner.scan, self._texts))
        self._held: dict[int, frozenset[object]] = {}

    def groups(self) -> list[_Group]:
        """Return replies of one skeleton each, the largest group first."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, skeleton in enumerate(self._skeletons):
            groups[skeleton.tokens].append(index)
        ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        return [_Group(Skeleton(tokens), members) for tokens, members in ranked]

    def merged(self, groups: Iterable[_Group]) -> list[_Group]:
        """Bring together groups that differ only in what they copy."""
        blocks: dict[tuple[str, ...], list[_Group]] = defaultdict(list)
        for group in groups:
            tokens = group.skeleton.tokens
            block = blocks[(*tokens[:2], *tokens[-2:])]
            for place, other in enumerate(block[:_MAX_BLOCK]):
                common = generalised(other.skeleton.tokens, tokens)
                if common and self._copies(common, (*other.members[:5], *group.members[:5])):
                    block[place] = _Group(common, [*other.members, *group.members])
                    break
            else:
                block.append(group)
        return sorted((group for block in blocks.values() for group in block), key=lambda group: -len(group.members))

    def near(self, groups: Iterable[_Group]) -> list[_Group]:
        """Bring groups in nearly the same words to the largest of them."""
        leaders: dict[tuple[str, ...], list[tuple[Counter[str], _Group]]] = defaultdict(list)
        for group in groups:
            among, words = leaders[_kinds(group.skeleton)], bag(group.skeleton.tokens)
            leader = next((other for known, other in among[:_MAX_NEAR] if alike(known, words) >= ALIKE), None)
            if leader is None:
                among.append((words, group))
            else:
                leader.members.extend(group.members)
        return [group for among in leaders.values() for _, group in among]

    def settled(self, group: _Group, refused: Counter[str]) -> list[tuple[ReplyTemplate, list[int]]]:
        """Return the templates of a group, each slot of which can be filled from the conversation."""
        if self._tasks(group.members) < self._least:
            return []
        template = group.skeleton.template
        values = {index: list(self._read(template, index).values()) for index in group.members}
        values = {index: found for index, found in values.items() if len(found) == len(template.kinds)}
        lacking = self._lacking(values, len(template.kinds))
        if lacking is not None and template.kinds[lacking] in ("number", "amount"):
            return self._split(group, values, lacking, refused)
        reason = None if lacking is None else f"a {template.kinds[lacking]} that the conversation does not hold"
        reason = reason or self.scanner.literal(template) or self._unsettled(template, values)
        if reason:
            refused[reason] += 1
        return [] if reason else [(template, group.members)]

    def _unsettled(self, template: ReplyTemplate, values: dict[int, list[Scalar]]) -> str | None:
        if len(template.kinds) > _MAX_SLOTS:
            return "too many slots"
        for slot, kind in enumerate(template.kinds):
            if kind == "phrase" and len({found[slot] for found in values.values()}) < self._least:
                return "a phrase of few values"
        return None

    def _split(
        self, group: _Group, values: dict[int, list[Scalar]], slot: int, refused: Counter[str]
    ) -> list[tuple[ReplyTemplate, list[int]]]:
        """Make a small number text where enough tasks have the same."""
        result = []
        ordered = sorted(values, key=lambda index: (str(values[index][slot]), index))
        for value, same in groupby(ordered, key=lambda index: values[index][slot]):
            if isinstance(value, int) and value < _SMALL:
                result += self.settled(_Group(group.skeleton.with_text(slot, str(value)), list(same)), refused)
        return result

    def _copies(self, skeleton: Skeleton, members: Sequence[int]) -> bool:
        template = skeleton.template
        for index in members:
            values = template.read(self._texts[index])
            if values is None or not all(self._holds(index, values.values())):
                return False
        return True

    def _lacking(self, values: dict[int, list[Scalar]], slots: int) -> int | None:
        """Return the first slot whose values the conversations lack."""
        held = [self._holds(index, found) for index, found in values.items()]
        return next((at for at in range(slots) if sum(row[at] for row in held) < max(1, _COPIED * len(held))), None)

    def _holds(self, index: int, values: Iterable[Scalar]) -> list[bool]:
        """Tell of each value whether the state before a reply holds it."""
        if index not in self._held:
            state = self._said[index].state
            self._held[index] = frozenset(view_state(state.messages, (), self._reader).places)
        return [value_key(value) in self._held[index] for value in values]

    def _read(self, template: ReplyTemplate, index: int) -> Values:
        return template.read(self._texts[index]) or _values(template, self._skeletons[index]) or {}

    def _tasks(self, members: Iterable[int]) -> int:
        return len({self._said[index].task for index in members})


def _kinds(skeleton: Skeleton) -> tuple[str, ...]:
    return skeleton.template.kinds


def _values(template: ReplyTemplate, skeleton: Skeleton) -> Values | None:
    """Return the values of a reply in other words than its template's, where its slots are of the same kinds."""
    if _kinds(skeleton) != template.kinds or len(skeleton.said) != len(template.kinds):
        return None
    try:
        read = [KINDS[kind].read(said) for kind, said in zip(template.kinds, skeleton.said, strict=True)]
    except ValueError:  # 31 April
        return None
    return dict(zip(template.slots, read, strict=True))


def _skeleton(template: ReplyTemplate) -> Skeleton:
    marks = [f"\x00{kind}\x01" for kind in template.kinds]
    return Skeleton.of("".join(part for pair in zip(template.pieces, [*marks, ""], strict=True) for part in pair))
