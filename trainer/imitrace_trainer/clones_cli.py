"""Offer the commands that look at clones and at keys: each parses, calls one function, prints."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import workspace_home

if TYPE_CHECKING:
    from imitrace_trainer.seal import Fault

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SHOWN = ("name", "family", "agent", "created_at", "dataset", "dataset_version", "dataset_hash", "training", "route")


@click.group(invoke_without_command=True)
@_HOME
@_JSON
@click.pass_context
def clones(context: click.Context, home: Path | None, as_json: bool) -> None:
    """List clones, their versions, verdicts and aliases.

    \b
    Examples:
      imitrace clones
      imitrace clones show airline
      imitrace clones verify airline@champion
    """
    context.obj = home
    if context.invoked_subcommand is None:
        _print_list(home, as_json)


@clones.command("list")
@_HOME
@_JSON
@click.pass_obj
def list_(group_home: Path | None, home: Path | None, as_json: bool) -> None:
    """List clones, their versions, verdicts and aliases.

    \b
    Examples:
      imitrace clones list --json
    """
    _print_list(home or group_home, as_json)


@clones.command()
@click.argument("clone")
@_HOME
@_JSON
@click.pass_obj
def show(group_home: Path | None, clone: str, home: Path | None, as_json: bool) -> None:
    """Show CLONE (NAME, NAME@champion or NAME:3): its card, its gate's verdicts, its passport.

    \b
    Examples:
      imitrace clones show airline
      imitrace clones show airline:2 --json
    """
    from imitrace_trainer.registry import Registry
    from imitrace_trainer.seal import read_record

    registry = Registry(workspace_home(home or group_home))
    version = registry.resolve(clone)
    report, damaged = registry.gate_record(version.name, version.version), registry.faults(version)
    record = read_record(version.path)
    if as_json:
        told = {key: record.get(key) for key in (*_SHOWN, "passport")} | {"version": version.version}
        told |= {"path": str(version.path), "gate": report and json.loads(report.to_json())}
        click.echo(json.dumps(told | {"faults": [fault._asdict() for fault in damaged]}, indent=1))
        return
    from imitrace_trainer.gate_report import gate_section

    card = version.path / "card.md"
    parts = [f"! {describe_fault(fault)}" for fault in damaged]
    parts += [registry.describe(version.name, version.version)]
    parts += [card.read_text(encoding="utf-8").rstrip()] if card.is_file() else []
    click.echo("\n\n".join([*parts, gate_section(report), describe_passport(record)]))


@clones.command()
@click.argument("clone")
@click.option("--key", type=click.Path(path_type=Path), help="Public key (PEM) that must have signed it.")
@_HOME
@_JSON
@click.pass_obj
def verify(group_home: Path | None, clone: str, key: Path | None, home: Path | None, as_json: bool) -> None:
    """Check that every byte of CLONE is what was signed, and of its gate's record. Exits 0 whole, 1 changed.

    CLONE is NAME, NAME@champion, NAME:3, or a folder: whatever has a '/' in it; that has no record. A record of before
    records were signed is told as such, and is no fault. Without --key, the keys in the workspace's folder keys/ count.

    \b
    Examples:
      imitrace clones verify airline@champion
      imitrace clones verify ./airline-v3 --key clone.pub
    """
    from imitrace_trainer.gate_signature import record_signer
    from imitrace_trainer.keys import read_public, trusted_keys
    from imitrace_trainer.registry import Registry
    from imitrace_trainer.seal import Fault, faults, read_signature

    folder = workspace_home(home or group_home)
    given = None if key is None else read_public(key)
    keys = trusted_keys(folder) if given is None else {given.id: given}
    gated, signer = False, None
    if os.sep in clone or clone in (".", ".."):
        path, found = Path(clone), faults(Path(clone), keys)
    else:
        version = (registry := Registry(folder)).resolve(clone)
        path, due = version.path, (version.name, version.version)
        record_path, found = registry.gate_path(*due), faults(path, keys, due)
        if gated := record_path.exists():
            signer = record_signer(record_path, keys, due)
            found += [signer] if isinstance(signer, Fault) else []
    signature = read_signature(path)
    told = None if isinstance(signature, Fault) else signature
    if as_json:
        record = {"whole": not found, "path": str(path), "faults": [fault._asdict() for fault in found]}
        signed = told and {"clone": told.clone, "version": told.version, "key": told.key}
        gate = {"signed": None if isinstance(signer, Fault) else signer} if gated else None
        click.echo(json.dumps(record | {"signed": signed, "gate": gate}, indent=1))
    elif found:
        click.echo("\n".join(f"{path}: {describe_fault(fault)}" for fault in found))
    else:
        click.echo(f"{path} is whole: {told.clone} v{told.version}, signed by {told.key}" if told else "")
        if gated:
            click.echo(f"its gate's record is {f'signed by {signer}' if signer else 'not signed: gate it again'}")
    sys.exit(1 if found else 0)


@click.command()
@click.argument("clone")
@click.option("--full", is_flag=True, help="Also the learning curve and the worth of features: some 15 fits.")
@_HOME
@_JSON
def report(clone: str, full: bool, home: Path | None, as_json: bool) -> None:
    """Measure how far CLONE (NAME, NAME@champion or NAME:3) can be trusted, on tasks it never saw.

    Writes clones/NAME/reports/vN.json and vN.html, a page with plots, and prints what each part says.

    \b
    Examples:
      imitrace report airline
      imitrace report airline@champion --full
    """
    import torch

    from imitrace_trainer.progress import progress_bar
    from imitrace_trainer.reporting import report_stage

    torch.set_num_threads(1)  # these networks are small: two threads wait for each other more than they work
    with progress_bar() as progress:
        reported = report_stage(workspace_home(home), clone, full, progress)
    click.echo(json.dumps(reported.to_json(), indent=1) if as_json else reported.text())


@click.group(invoke_without_command=True)
@_HOME
@_JSON
@click.pass_context
def keys(context: click.Context, home: Path | None, as_json: bool) -> None:
    """Show the key that signs clones, and whose clones are trusted.

    \b
    Examples:
      imitrace keys
      imitrace keys show > clone.pub
    """
    context.obj = home
    if context.invoked_subcommand is not None:
        return
    from imitrace_trainer.keys import FOLDER, PUBLIC, read_public, trusted_keys

    folder = workspace_home(home)
    found = trusted_keys(folder)
    public = folder / FOLDER / PUBLIC
    own = read_public(public).id if public.exists() else None
    rows = [{"key": name, "signs_here": name == own} for name in found]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        lines = [f"{row['key']}  {'signs here' if row['signs_here'] else 'trusted'}" for row in rows]
        click.echo("\n".join(lines) or "no key yet: the first 'imitrace train' makes one")


@keys.command("show")
@_HOME
@_JSON
@click.pass_obj
def show_key(group_home: Path | None, home: Path | None, as_json: bool) -> None:
    """Print the workspace's public key as PEM, to verify its clones elsewhere; makes the key where there is none.

    \b
    Examples:
      imitrace keys show > clone.pub
    """
    from imitrace_trainer.keys import signing_key

    own = signing_key(workspace_home(home or group_home)).public
    click.echo(json.dumps({"key": own.id, "pem": own.pem}, indent=1) if as_json else own.pem, nl=as_json)


def describe_clone(row: dict[str, Any]) -> str:
    """Return a clone version in one line."""
    aliases = f" ({', '.join(row['aliases'])})" if row["aliases"] else ""
    acts = ", ".join(row["cohorts"]) or "none"
    until = f" until {row['until']}" if row["until"] else f"; {row['lapsed']}" if row["lapsed"] else ""
    back = "".join(f"\n  ! {why}" for why in row["stepped_back"].values())
    return f"{row['name']} v{row['version']}{aliases}  gate {row['gate']}  acts in {acts}{until}{back}"


def describe_fault(fault: "Fault") -> str:
    """Return a file and what is wrong with it in one line."""
    return f"{fault.file} {fault.problem}"


def describe_passport(record: dict[str, Any]) -> str:  # JSON
    """Return what a clone was made of in a few lines, those that its passport has."""
    told = record.get("passport", {})
    lines = [f"dataset    {record.get('dataset')} v{record.get('dataset_version')} {record.get('dataset_hash')}"]
    for who in told.get("learned_from", []):
        licence = who["licence"]
        said = f"{licence['verdict']} by {licence['pattern']!r}" if licence else "licence: nobody decided"
        version = f" {who['version']}" if who["version"] else ""
        lines.append(f"learned    {who['steps']} steps by {who['role']} {who['policy'] or '?'}{version}, {said}")
    for split, counts in told.get("masks", {}).items():
        masked = ", ".join(f"{reason} {count}" for reason, count in counts["masked"].items()) or "none"
        lines.append(f"masks      {split}: {counts['counted']} steps count, context only: {masked}")
    if code := told.get("code"):
        lines.append(f"code       imitrace {code['imitrace']}, sources {code['sources'][:16]}")
    return "\n".join(["## The passport", "", *lines])


def _print_list(home: Path | None, as_json: bool) -> None:
    from imitrace_trainer.clone_list import list_clones

    rows = list_clones(workspace_home(home))
    text = "\n".join(map(describe_clone, rows)) or "no clone yet: run 'imitrace train'"
    click.echo(json.dumps(rows, indent=1) if as_json else text)
