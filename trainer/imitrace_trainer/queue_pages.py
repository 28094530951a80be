"""Write items of the queue for a person at a terminal: what was said last, and both actions side by side."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from imitrace.messages import Action, Message, message_text
from imitrace_trainer.queue_desk import Queue
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_ranking import Ranked
from imitrace_trainer.queue_verdicts import VERDICTS, Judgement

WIDTH: Final = 100
_LAST: Final = 6
_LINES: Final = 14
"""Lines of one message that are shown."""
_SHORT: Final = 34
_KINDS: Final[Mapping[str, str]] = {
    "disagreement": "clone and expert differ",
    "handover": "the expert took over from the clone here",
    "low_confidence": "the clone acted, and was unsure",
}


def page(ranked: Ranked, width: int = WIDTH, last: int = _LAST) -> str:
    """Return an item as a page: what it is, the last messages, and both actions side by side."""
    item = ranked.item
    lines = [f"{item.id}  {_KINDS[item.kind]}  risk {ranked.risk}, score {ranked.score:.2f}, seen {item.seen} times"]
    lines += [f"agent {item.agent}" + "".join(f", {key} {value}" for key, value in sorted(item.tags.items()))]
    lines += [f"route: {item.reason}"] if item.reason else []
    lines += [f"harmless: {item.equivalent}"] if item.equivalent else []
    lines.append("-" * width)
    hidden = len(item.state) - last
    lines += [f"({hidden} messages before)"] if hidden > 0 else []
    for message in item.state[-last:]:
        lines += said(message, width)
    lines += ["-" * width, *side_by_side(item, width)]
    if item.observation is not None:
        lines += ["what came of it:", *_cut(list(_told(_parsed(item.observation))), width - 2)]
    return "\n".join(lines)


def said(message: Message, width: int = WIDTH) -> list[str]:
    """Return a message as lines, who says it first; results of tools without braces and quotes."""
    lines: list[str] = []
    for part in message["parts"]:
        if part.get("type") == "tool_call":
            lines += call_lines(Action("tool_call", str(part.get("name")), dict(part.get("arguments") or {})))
        elif part.get("type") == "tool_call_response":
            lines += list(_told(_parsed(part.get("response"))))
    text = message_text(message)
    lines = [*text.splitlines(), *lines] if text else lines
    return [f"{message['role']}:", *_cut(lines, width - 2)]


def side_by_side(item: Item, width: int = WIDTH) -> list[str]:
    """Return what the expert did and what the clone would do, in two columns."""
    half = (width - 3) // 2
    sure = "" if item.confidence is None else f", {item.confidence:.0%} sure"
    far = "" if item.ood is None else f", distance {item.ood:.2f}"
    left = [f"EXPERT {item.expert_name or ''}".rstrip(), *_column(item.expert, half)]
    right = [f"CLONE {item.clone_name or ''}{sure}{far}".rstrip(), *_column(item.clone, half)]
    height = max(len(left), len(right))
    left, right = (column + [""] * (height - len(column)) for column in (left, right))
    return [f"{one[:half]:<{half}} | {other[:half]}".rstrip() for one, other in zip(left, right, strict=True)]


def call_lines(action: Action) -> list[str]:
    """Return an action as lines: a call with an argument a line, or a text."""
    if action.kind == "message":
        return (action.message or "(a text, left to the expert)").splitlines()
    return [f"{action.name}", *(f"  {line}" for line in _told(action.arguments))]


def listing(found: Sequence[Ranked], apart: int, limit: int) -> str:
    """Return items as a table, the first of them on top."""
    lines = [f"{'id':<16}  {'risk':<12}  score  conf  new   seen  {'expert':<{_SHORT}}  clone"]
    lines += [_row(one) for one in found[:limit]]
    more = [f"{len(found) - limit} more, see --limit"] if len(found) > limit else []
    more += [f"{apart} harmless ones set apart, see --equivalent"] if apart else []
    return "\n".join([*lines, *more]) if found or apart else "nothing to judge"


def stats_text(queue: Queue) -> str:
    """Return what waits, what was said by whom, and how far reviewers agree."""
    told = queue.stats()
    lines = [f"waiting: {_counts(told['waiting'])}; harmless: {_counts(told['equivalent'])}"]
    lines.append(f"judged: {told['judged']} items: {_counts(told['verdicts'])}")
    for who, of in told["reviewers"].items():
        unmeasured = f", {of['unmeasured']} of them unmeasured" if of["unmeasured"] else ""
        lines.append(f"  {who}: {of['judged']} items in {of['minutes']:.1f} minutes{unmeasured}")
    agreement = queue.agreements()
    if any(kappa.items for kappa in agreement.values()):
        lines += [f"agreement beyond chance, {name}: {kappa}" for name, kappa in agreement.items()]
    standing = queue.standing
    lines += [f"  {name}: {_opinions(standing[name])}" for name in told["disputed"]]
    lines += [f"{told['broken_lines']} lines of the verdicts can't be read"] if told["broken_lines"] else []
    return "\n".join(lines)


def _opinions(made: Mapping[str, Judgement]) -> str:
    return ", ".join(f"{who} {one.verdict}" for who, one in sorted(made.items()))


def _row(one: Ranked) -> str:
    item = one.item
    sure = "   -" if item.confidence is None else f"{item.confidence:4.2f}"
    mark = "  = " + item.equivalent if item.equivalent else ""
    expert, clone = (_short(action) for action in (item.expert, item.clone))
    head = f"{item.id:<16}  {one.risk:<12}  {one.score:5.2f}  {sure}  {one.novelty:4.2f}  {item.seen:4}"
    return f"{head}  {expert:<{_SHORT}}  {clone}{mark}"


def _short(action: Action | None) -> str:
    if action is None:
        return "-"
    text = " ".join(call_lines(action)[0].split()) if action.kind == "message" else _call(action)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}~"


def _call(action: Action) -> str:
    return f"{action.name}({', '.join(str(value) for value in action.arguments.values())})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {VERDICTS.get(name, name).split(',')[0]}" for name, count in counts.items()) or "none"


def _column(action: Action | None, width: int) -> list[str]:
    if action is None:
        return ["(nobody asked)"]
    return [piece for line in call_lines(action) for piece in _wrapped(line, width)]


def _cut(lines: Sequence[str], width: int) -> list[str]:
    pieces = [piece for line in lines for piece in _wrapped(line, width)]
    more = [f"  ... {len(pieces) - _LINES} more lines"] if len(pieces) > _LINES else []
    return [f"  {piece}" for piece in pieces[:_LINES]] + more


def _wrapped(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, width, subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]


def _told(value: Any, depth: int = 0) -> Iterator[str]:  # any JSON value
    """Yield a JSON value as indented lines without braces and quotes."""
    space = "  " * depth
    if isinstance(value, Mapping):
        pairs: list[tuple[str, Any]] = [(f"{key}:", item) for key, item in value.items()]
    elif isinstance(value, list):
        pairs = [("-", item) for item in value]
    else:
        yield from (f"{space}{line}" for line in str(value).splitlines() or [""])
        return
    for head, item in pairs:
        if isinstance(item, Mapping | list) and item:
            yield f"{space}{head}"
            yield from _told(item, depth + 1)
        else:
            yield f"{space}{head} {'' if item in ({}, []) else item}".rstrip()


def _parsed(value: Any) -> Any:  # any JSON value
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
