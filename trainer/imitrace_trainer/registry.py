"""Keep the versions of clones: folders that never change, names that point at them, and the gate's records.

    clones/NAME/vN/{model.safetensors, clone.json, ...}   written once, under another name, signed, then renamed
    clones/NAME/aliases.json                              champion, candidate, previous -> N
    clones/NAME/route.json                                by which settings it is routed: see ``RouteConfig``
    clones/NAME/checks.json                               when its tools and drift were last found in order
    clones/NAME/drift.json                                which looks for drift its champion had: see ``Watch``
    clones/NAME/canary.json                               whether its champion is still tried in few trajectories
    clones/NAME/stepped_back.json                         in which cohorts versions went back to the expert, and why
    clones/NAME/gates/vN.{json,html}                      the newest gate record of a version, and a page of it
    clones/NAME/reports/vN.{json,html}                    what it was last measured to be, after it was registered

Writers take turns by one lock file, readers need none: every file and folder appears whole or not at all.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.canary import CanaryFile
from imitrace_trainer.drafts import draft, locked, replace_text, sync
from imitrace_trainer.evidence import Evidence, weigh
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.gate_signature import sign_record
from imitrace_trainer.keys import signing_key, trusted_keys
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.seal import Fault, check_seal, faults, seal
from imitrace_trainer.step_backs import StepBacks

T = TypeVar("T")

ALIASES = ("champion", "candidate", "previous")
SUFFIXES = (".safetensors", ".json", ".md", ".html")
"""What a version may hold: weights and text, nothing that runs code when it is loaded; pages have no script."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


class CloneVersion(NamedTuple):
    """One version of a clone, and where it lies."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True)
class Promotion:
    """Which version is champion now, which was before, and the cohorts where the champion passed its gate."""

    name: str
    version: int
    previous: int | None
    cohorts: tuple[str, ...]


class Registry:
    """Register, find, promote and roll back clones in a workspace."""

    def __init__(self, home: str | Path) -> None:
        self._home = Path(home)
        self._clones = self._home / "clones"

    def names(self) -> list[str]:
        """Return the clones that have a version, sorted."""
        if not self._clones.is_dir():
            return []
        return sorted(path.name for path in self._clones.iterdir() if _NAME.fullmatch(path.name) and _numbers(path))

    def versions(self, name: str) -> list[int]:
        """Return a clone's versions, oldest first; none for a clone that does not exist."""
        return _numbers(self._folder(name))

    def register(self, name: str, write: Callable[[Path], None]) -> int:
        """Add a version, signed with the workspace's key, and make it the candidate.

        Args:
            name: the clone.
            write: puts the version's files into the folder that it is given; ``clone.json`` must be one of them.

        Returns:
            The version's number; no number is given twice, not even after a version was deleted by hand.

        Raises:
            CloneError: the name is not allowed, or ``write`` left a file that is none of ``SUFFIXES``.
            ConfigError: the workspace's key can't be used.
        """
        folder, key = self._folder(name), signing_key(self._home)
        with draft(self._clones) as aside:
            write(aside)
            _check_files(name, aside)
            with locked(self._clones):
                (folder / "gates").mkdir(parents=True, exist_ok=True)
                aliases = self.aliases(name)
                number = 1 + max([0, *_numbers(folder), *_numbers(folder / "gates", ".json"), *aliases.values()])
                seal(aside, name, number, key)
                for path in (*aside.iterdir(), aside):
                    sync(path)
                aside.rename(folder / f"v{number}")
                sync(folder)
                sync(self._clones)
                self._write_aliases(name, {**aliases, "candidate": number})
        return number

    def resolve(self, reference: str) -> CloneVersion:
        """Return the version that a reference means.

        Args:
            reference: ``NAME`` (champion, or the newest version while there is none; ``describe`` says which),
                ``NAME@champion``, ``NAME@candidate``, ``NAME@previous``, ``NAME:3`` or ``NAME:v3``.

        Raises:
            CloneError: there is no such clone, alias or version.
        """
        name, mark, which = (*re.split(r"([:@])", reference, maxsplit=1), "", "")[:3]
        versions, aliases = self.versions(name), self.aliases(name)
        if not versions:
            raise CloneError(f"clone {name!r} does not exist, there is: {_listed(self.names())}; run 'imitrace train'")
        if mark == ":":
            number = int(which.removeprefix("v")) if re.fullmatch(r"v?[0-9]{1,9}", which) else None
        else:
            number = aliases.get(which) if mark else aliases.get("champion", versions[-1])
        if number is None or number not in versions:
            known = [f"@{alias} (v{target})" for alias, target in aliases.items()] + [f":v{n}" for n in versions]
            raise CloneError(f"clone reference {reference!r} names no version, there is: {_listed(known)}")
        return CloneVersion(name, number, self._folder(name) / f"v{number}")

    def check(self, clone: CloneVersion) -> None:
        """Refuse a version whose files are not what was signed, by this workspace's key or one that it trusts.

        Raises:
            CloneError: names the file.
            ConfigError: a trusted key can't be read.
        """
        check_seal(clone.path, trusted_keys(self._home), (clone.name, clone.version))

    def faults(self, clone: CloneVersion) -> list[Fault]:
        """Return a version's files that are not what was signed, as ``check`` refuses them."""
        return faults(clone.path, trusted_keys(self._home), (clone.name, clone.version))

    def describe(self, name: str, version: int) -> str:
        """Return a version in words: ``airline v3 (champion)``, or that it is only the newest."""
        aliases = self.aliases(name)
        roles = [alias for alias in ALIASES if aliases.get(alias) == version]
        if "champion" not in aliases and version == max(self.versions(name), default=0):
            roles.append("newest, no champion yet")
        return f"{name} v{version}{f' ({_listed(roles)})' if roles else ''}"

    def aliases(self, name: str) -> dict[str, int]:
        """Return which version each alias of a clone means.

        Raises:
            CloneError: ``aliases.json`` was damaged by hand.
        """
        return _read(self._folder(name) / "aliases.json", int, "alias = version; delete it and promote again")

    def record_gate(self, name: str, version: int, report: GateReport, page: str = "") -> None:
        """Keep what the gate said of a version, signed where there is a key, in place of what it said before.

        Args:
            name: the clone.
            version: its version.
            report: what the gate said.
            page: the same as a page for people, if there is one.

        Raises:
            CloneError: there is no such version, or the report is of another one.
        """
        self.resolve(f"{name}:{version}")
        if (report.clone, report.version) != (name, version):
            raise CloneError(f"gate report is of {report.clone} v{report.version}, expected {name} v{version}")
        text = report.to_json()
        with suppress(ConfigError):  # what a gate cost is not thrown away for want of a key
            text = sign_record(text, signing_key(self._home))
        with locked(self._clones):
            if page:
                replace_text(self.gate_page(name, version), page)
            replace_text(self.gate_path(name, version), text)

    def gate_path(self, name: str, version: int) -> Path:
        """Return where the record of a version's gate lies."""
        return self._folder(name) / "gates" / f"v{version}.json"

    def gate_page(self, name: str, version: int) -> Path:
        """Return where the page of a version's gate lies."""
        return self.gate_path(name, version).with_suffix(".html")

    def gate_record(self, name: str, version: int) -> GateReport | None:
        """Return what the gate last said of a version, or None when it was never asked."""
        try:
            return GateReport.from_json(self.gate_path(name, version).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def record_report(self, clone: CloneVersion, texts: Mapping[str, str]) -> list[Path]:
        """Keep what a version was measured to be, in place of what was kept before; return where.

        Args:
            clone: the version.
            texts: by the ending of the file's name.
        """
        folder = self._folder(clone.name) / "reports"
        paths = [folder / f"v{clone.version}{ending}" for ending in texts]
        with locked(self._clones):
            folder.mkdir(exist_ok=True)
            for path, text in zip(paths, texts.values(), strict=True):
                replace_text(path, text)
        return paths

    def record_route(self, name: str, config: RouteConfig) -> None:
        """Keep by which settings a clone is routed, for every version of it, in place of those before."""
        folder = self._folder(name)
        with locked(self._clones):
            folder.mkdir(parents=True, exist_ok=True)
            replace_text(folder / "route.json", json.dumps(config.to_json(), indent=1) + "\n")

    def route_config(self, name: str) -> RouteConfig:
        """Return by which settings a clone is routed; where none were recorded, the defaults without an audit slice.

        Raises:
            CloneError: ``route.json`` was damaged by hand.
        """
        path = self._folder(name) / "route.json"
        try:
            return RouteConfig.from_table(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return RouteConfig(audit=0, unaudited=True)
        except (ValueError, TypeError, AttributeError, ConfigError) as error:
            raise CloneError(f"{path} can't be read ({error}); run 'imitrace route {name} --apply'") from error

    def record_check(self, name: str, what: str, at: str) -> None:
        """Keep when something of a clone was last found in order: one of ``evidence.CHECKS``, ISO 8601."""
        with locked(self._clones):
            replace_text(
                self._folder(name) / "checks.json", json.dumps({**self.checks(name), what: at}, indent=1) + "\n"
            )

    def checks(self, name: str) -> dict[str, str]:
        """Return when each check of a clone was last found in order.

        Raises:
            CloneError: ``checks.json`` was damaged by hand.
        """
        return _read(self._folder(name) / "checks.json", str, "check = time; delete it and check again")

    def evidence(self, clone: CloneVersion) -> Evidence:
        """Return on which evidence a version may act, where, and until when.

        Raises:
            CloneError: a record can't be read.
        """
        report = self.gate_record(clone.name, clone.version)
        if report is not None and (report.clone, report.version) != (clone.name, clone.version):
            report = None
        label, made_from = f"{clone.name} v{clone.version}", _dataset_hash(clone.path)
        found = weigh(label, report, made_from, self.checks(clone.name), self.route_config(clone.name))
        return found.without(StepBacks(self._home, clone.name).of(clone.version).reasons())

    def promote(
        self, name: str, version: int | None = None, *, dataset_hash: str, now: float | None = None
    ) -> Promotion:
        """Make a version the champion, if the gate let it pass in at least one cohort and its record is not too old.

        Args:
            name: the clone.
            version: which version; the candidate when left out.
            dataset_hash: the dataset that the clone must have been made from and gated on.
            now: the time, in seconds since 1970; None: the clock's.

        Raises:
            CloneError: no such version, no gate record of it, one of another dataset, one that does not allow it, or
                one that lapsed; or a file of it is not what was signed.
        """
        with locked(self._clones):
            clone = self.resolve(f"{name}@candidate" if version is None else f"{name}:{version}")
            self.check(clone)
            cohorts = self._allowed_cohorts(clone, dataset_hash)
            lapsed = self.evidence(clone).at(time.time() if now is None else now)
            if lapsed.lack is not None:
                raise CloneError(f"{lapsed.lack}; only then it can be promoted")
            aliases = self.aliases(name)
            if aliases.get("champion") != clone.version:
                previous = {"previous": aliases["champion"]} if "champion" in aliases else {}
                aliases = {**aliases, **previous, "champion": clone.version}
                self._write_aliases(name, aliases)
                if self.route_config(name).canary:
                    began = datetime.fromtimestamp(time.time() if now is None else now, UTC)
                    CanaryFile(self._home, name).begin(clone.version, began.isoformat(timespec="seconds"))
            gated = self.gate_record(name, clone.version)
            if gated is not None:
                StepBacks(self._home, name).forgive(clone.version, gated.created_at)
        return Promotion(name, clone.version, aliases.get("previous"), cohorts)

    def rollback(self, name: str) -> Promotion:
        """Swap champion and previous; also where the previous is damaged, which then leaves all to the expert.

        Raises:
            CloneError: there is no previous champion, or its version is gone.
        """
        with locked(self._clones):
            clone = self.resolve(f"{name}@previous")
            champion = self.resolve(f"{name}@champion").version
            swapped = {**self.aliases(name), "champion": clone.version, "previous": champion}
            self._write_aliases(name, swapped)
        cohorts: tuple[str, ...] = ()
        with suppress(CloneError):  # a damaged record allows nothing
            cohorts = self.evidence(clone).at(time.time()).cohorts
        return Promotion(name, clone.version, champion, cohorts)

    def _allowed_cohorts(self, clone: CloneVersion, dataset_hash: str) -> tuple[str, ...]:
        label = f"{clone.name} v{clone.version}"
        mend = f"run 'imitrace gate {clone.name}:{clone.version}'"
        report = self.gate_record(clone.name, clone.version)
        if report is None or (report.clone, report.version) != (clone.name, clone.version):
            raise CloneError(f"{label} has no gate record; {mend}")
        made_from = _dataset_hash(clone.path)
        if not made_from == report.dataset_hash == dataset_hash:
            raise CloneError(
                f"{label} was made from dataset {made_from} and gated on {report.dataset_hash}, "
                f"expected {dataset_hash} for both; train and gate again"
            )
        if not report.passed_cohorts():
            verdicts = ", ".join(f"{cohort.cohort} {cohort.verdict}" for cohort in report.cohorts)
            found = "is blocked by a safety regression" if report.blocked else f"passed in no cohort ({verdicts})"
            raise CloneError(
                f"{label} {found}, needed: a pass in one cohort or more; train it again, or gate it on more tasks"
            )
        return report.passed_cohorts()

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise CloneError(
                f"clone name is {name!r}, allowed: letters, digits, '_', '.', '-', a letter or digit first"
            )
        return self._clones / name

    def _write_aliases(self, name: str, aliases: dict[str, int]) -> None:
        replace_text(self._folder(name) / "aliases.json", json.dumps(aliases, indent=2) + "\n")


def _numbers(folder: Path, suffix: str = "") -> list[int]:
    if not folder.is_dir():
        return []
    matches = (_VERSION.fullmatch(path.name.removesuffix(suffix)) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def _check_files(name: str, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file() or path.suffix not in SUFFIXES:
            raise CloneError(f"clone {name} holds {path.name!r}, allowed: plain files ending in {', '.join(SUFFIXES)}")
    if not (folder / "clone.json").is_file():
        raise CloneError(f"clone {name} holds no clone.json, needed: what it is and which dataset it was made from")


def _dataset_hash(folder: Path) -> str:
    path = folder / "clone.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["dataset_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CloneError(f"{path} names no dataset_hash ({error!r}); train the clone again") from error


def _read(path: Path, kind: type[T], allowed: str) -> dict[str, T]:
    """Return a file's JSON object, whose values are all of a kind; an empty one where there is no file.

    Args:
        path: the file.
        kind: of the values.
        allowed: what the object should be, and the mend behind a semicolon.

    Raises:
        CloneError: it was damaged by hand.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CloneError(f"{path} is not JSON ({error});{allowed.partition(';')[2]}") from error
    if not isinstance(found, dict) or not all(type(value) is kind for value in found.values()):
        raise CloneError(f"{path} is {found!r}, allowed: {allowed}")
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
