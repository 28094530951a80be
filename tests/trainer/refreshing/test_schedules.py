"""Schedules as crontab lines, systemd units and Kubernetes jobs, and each of them as its own program reads it."""

import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from imitrace.config import child_environment
from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.calls import Call, call_for
from imitrace_trainer.refreshing.crontab import crontab_lines, with_lines, without_lines
from imitrace_trainer.refreshing.kubernetes import cron_job
from imitrace_trainer.refreshing.systemd import calendar, install_units, remove_units, systemd_units
from imitrace_trainer.refreshing.times import Times

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NIGHT = Times("30 2 * * *", "Europe/Berlin")
TABLE = "MAILTO=ann\n# imitrace airline is ours\n0 5 * * * /bin/true # imitrace other in /w\n\n@daily /bin/false"


@pytest.fixture
def call(tmp_path: Path) -> Call:
    folder = tmp_path / 'it\'s 100% "mine" $HOME'
    folder.mkdir()
    (folder / "imitrace.toml").write_text("")
    return call_for("airline", folder / ".imitrace", folder / "imitrace.toml")


def test_a_line_runs_from_anywhere_with_a_bare_environment(call: Call, tmp_path: Path) -> None:
    plan, reboot = crontab_lines(call, NIGHT, ZoneInfo("Europe/Berlin"), NOW)
    command = plan.removeprefix("30 2 * * * ")
    assert reboot == f"@reboot {command}"
    assert "%" not in command.replace(r"\%", "")
    ran = subprocess.run(["/bin/sh", "-c", command.replace(r"\%", "%")], env={}, cwd="/", check=False)
    assert ran.returncode == 2  # it came as far as to say what the empty file lacks
    assert "clone 'airline' is not in imitrace.toml" in call.log.read_text()


def test_the_command_is_this_interpreter_with_absolute_paths(call: Call) -> None:
    words = shlex.split(call.shell)
    assert words[words.index("-m") - 1] == sys.executable
    assert words[words.index("--home") + 1] == str(call.home)
    assert call.home.is_absolute()


def test_lines_for_another_clock_come_whenever_the_schedule_may(call: Call) -> None:
    lines = crontab_lines(call, NIGHT, ZoneInfo("UTC"), NOW)
    assert [line[: line.index(" mkdir")] for line in lines] == ["30 0 * * *", "0,30 1 * * *", "@reboot"]


def test_installing_twice_is_installing_once_and_touches_no_other_line(call: Call) -> None:
    lines = crontab_lines(call, NIGHT, ZoneInfo("UTC"), NOW)
    once = with_lines(TABLE, call, lines)
    assert once == f"{TABLE}\n" + "".join(f"{line}\n" for line in lines)
    assert with_lines(once, call, lines) == once
    assert without_lines(once, call) == f"{TABLE}\n"
    assert without_lines(TABLE, call) == TABLE
    assert with_lines("", call, lines).startswith("30 0 * * *")


def test_a_path_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line break"):
        call_for("airline", tmp_path / "a\nb", tmp_path / "imitrace.toml")


def systemd_says(moment: str, base: datetime, count: int) -> list[datetime]:
    """Return when a moment comes round by systemd itself."""
    command = ["systemd-analyze", "calendar", moment, f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC"]
    command.append(f"--iterations={count}")
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=child_environment({"TZ": "UTC"}))
    lines = (line.split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
    told = [time for name, time in lines if name.strip().startswith(("Next elapse", "Iter."))]
    return [datetime.strptime(one, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC) for one in told]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("30 3 * * *", "Europe/Berlin"),
        ("30 2 * * *", "Europe/Berlin"),
        ("*/20 9-17/4 * * mon-fri", "America/New_York"),
        ("0 6 13 * fri", "UTC"),
        ("15 1 1,15 jan,jul *", "Asia/Kathmandu"),
        ("0 12 * * 0,7", "UTC"),
    ],
)
def test_systemd_reads_a_timer_as_it_is_meant(cron: str, zone: str) -> None:
    times, found = Times(cron, zone), set[datetime]()
    for moment in calendar(times, NOW):
        found |= set(systemd_says(f"{moment} {zone}", NOW, 60))
    wanted = [moment.astimezone(UTC) for moment in times.between(NOW, NOW + timedelta(days=600), 40)]
    assert set(wanted) <= found  # those beside are calls at which nothing is due
    if "2 " not in cron:
        assert sorted(found)[: len(wanted)] == wanted


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_in_the_units(call: Call, tmp_path: Path) -> None:
    units, folder = systemd_units(call, NIGHT, NOW), tmp_path / "units"
    folder.mkdir()
    for name, text in units.files.items():
        (folder / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(folder.iterdir()))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    about = [line for line in ran.stderr.splitlines() if "imitrace" in line]
    assert (about, len(units.files)) == ([], 2)


def test_a_service_runs_the_same_line_as_cron(call: Call) -> None:
    """Undo what systemd.service(5) says of quotes, C escapes, specifiers and variables."""
    (line,) = re.findall('^ExecStart=/bin/sh -c "(.*)"$', systemd_units(call, NIGHT, NOW).service, re.MULTILINE)
    read = re.sub(r"\\(.)", r"\1", line.replace("%%", "%").replace("$$", "$"))
    assert read == call.shell
    assert re.search(r'(?<!\\)(\\\\)*"', line) is None


def test_units_of_another_workspace_are_left_alone(call: Call, tmp_path: Path) -> None:
    units, folder = systemd_units(call, NIGHT, NOW), tmp_path / "units"
    install_units(units, call, folder)
    other = Call(clone="airline", home=tmp_path / "elsewhere", config=call.config)
    with pytest.raises(ConfigError, match="it is another's"):
        install_units(systemd_units(other, NIGHT, NOW), other, folder)
    with pytest.raises(ConfigError, match="it is another's"):
        remove_units(units, other, folder)
    assert {path.name: path.read_text() for path in folder.glob("imitrace*")} == units.files
    assert remove_units(units, call, folder)
    assert not remove_units(units, call, folder)
    assert not list(folder.glob("imitrace*"))


def test_a_cron_job_lets_no_two_run_and_knows_the_zone(call: Call) -> None:
    spec = yaml.safe_load(cron_job(call, NIGHT, "registry.test/imitrace:1"))["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("30 2 * * *", "Europe/Berlin", "Forbid")
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["refresh", "airline"]
    assert container["image"] == "registry.test/imitrace:1"


def test_a_cron_job_calls_sunday_as_kubernetes_does(call: Call) -> None:
    assert yaml.safe_load(cron_job(call, Times("0 4 * * 5-7"), "i"))["spec"]["schedule"] == "0 4 * * 0,5,6"
