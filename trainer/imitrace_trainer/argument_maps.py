"""Turn a call's arguments from one contract of a tool into another's, as a person decided; pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import ConfigError
from imitrace_trainer.argument_fit import same_value
from imitrace_trainer.tool_changes import Change


@dataclass(frozen=True)
class ArgumentMap:
    """What becomes of a call's arguments: rename, then drop, then other values, then defaults, then constants."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """New name by old name."""
    drop: tuple[str, ...] = ()
    """Names that are left out."""
    values: Mapping[str, tuple[tuple[Any, Any], ...]] = field(default_factory=dict)
    """By new name: pairs of an old value and the new one; other values stay."""
    default: Mapping[str, Any] = field(default_factory=dict)
    """Values by name where the call has none."""
    constant: Mapping[str, Any] = field(default_factory=dict)
    """Values by name, whatever the call has."""
    accept: bool = False
    """Whether what is not mapped is accepted: calls that don't fit are masked."""

    def __bool__(self) -> bool:
        return any((self.rename, self.drop, self.values, self.default, self.constant, self.accept))

    def apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the same call under the new contract."""
        result = {self.rename.get(name, name): value for name, value in arguments.items() if name not in self.drop}
        for name, pairs in self.values.items():
            if name in result:
                old = result[name]
                result[name] = next((new for before, new in pairs if same_value(before, old)), old)
        return {**self.default, **result, **self.constant}

    def lacks(self, changes: Iterable[Change]) -> list[Change]:
        """Return the breaking changes that it does not answer."""
        if self.accept:
            return []
        given = {*self.rename.values(), *self.default, *self.constant}
        changed = {*self.rename, *self.drop, *self.values, *self.constant}
        return [
            change for change in changes if change.breaking and change.top not in (given if change.absent else changed)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, without what is empty."""
        record = {
            "rename": dict(self.rename),
            "drop": [*self.drop],
            "values": {name: [[*pair] for pair in pairs] for name, pairs in self.values.items()},
            "default": dict(self.default),
            "constant": dict(self.constant),
            "accept": self.accept,
        }
        return {key: value for key, value in record.items() if value}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ArgumentMap":
        """Return what ``to_json`` gave."""
        pairs = {name: tuple((old, new) for old, new in found) for name, found in record.get("values", {}).items()}
        tables = {key: dict(record.get(key, {})) for key in ("rename", "default", "constant")}
        return cls(drop=tuple(record.get("drop", ())), values=pairs, accept=bool(record.get("accept")), **tables)

    @classmethod
    def parse(cls, options: Mapping[str, Iterable[str]], *, accept: bool = False) -> "ArgumentMap":
        """Return the map that a command's options say.

        Args:
            options: ``argument`` (OLD=NEW), ``drop`` (NAME), ``value`` (NAME:OLD=NEW), ``default`` and ``constant``
                (NAME=VALUE); a value is JSON, or else text.
            accept: whether what is not mapped is accepted.

        Raises:
            ConfigError: an option is not of this form, or says of one argument two things.
        """
        values: dict[str, list[tuple[Any, Any]]] = {}
        for text in options.get("value", ()):
            name, pair = _cut(text, ":", "--value", "NAME:OLD=NEW such as reason:broken=damaged")
            old, new = _cut(pair, "=", "--value", "NAME:OLD=NEW such as reason:broken=damaged")
            values.setdefault(name, []).append((_value(old), _value(new)))
        made = cls(
            rename=_table(options.get("argument", ()), "--argument", "OLD=NEW such as order=order_id"),
            drop=tuple(options.get("drop", ())),
            values={name: tuple(pairs) for name, pairs in values.items()},
            default={name: _value(text) for name, text in _given(options, "default").items()},
            constant={name: _value(text) for name, text in _given(options, "constant").items()},
            accept=accept,
        )
        twice = sorted(set(made.rename) & set(made.drop) | set(made.default) & set(made.constant))
        if twice:
            raise ConfigError(f"argument {twice[0]!r} is named by two options that exclude each other, keep one")
        return made


def _given(options: Mapping[str, Iterable[str]], key: str) -> dict[str, str]:
    return _table(options.get(key, ()), f"--{key}", "NAME=VALUE such as currency=EUR")


def _table(texts: Iterable[str], option: str, form: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for text in texts:
        name, value = _cut(text, "=", option, form)
        if name in table:
            raise ConfigError(f"{option} names {name!r} twice, keep one")
        table[name] = value
    return table


def _cut(text: str, mark: str, option: str, form: str) -> tuple[str, str]:
    name, found, rest = text.partition(mark)
    if not found or not name:
        raise ConfigError(f"{option} is {text!r}, expected {form}")
    return name, rest


def _value(text: str) -> Any:  # any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
