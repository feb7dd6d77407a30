"""The units and settings of deploy/: well formed, on addresses of this machine, without secrets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ragft_pipeline_tests.deploy.conftest import DEPLOY
from ragft_pipeline_tests.deploy.units import INSTALLED, SERVICES, UNITS, command, settings


def variables() -> dict[str, str]:
    """Return what the example of ragft.env sets."""
    lines = (DEPLOY / "ragft.env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
def test_systemd_reads_the_units_without_a_complaint(tmp_path: Path) -> None:
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*.service"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(INSTALLED, str(Path(sys.executable).parent)), "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.glob("*.service")))],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    ours = [line for line in (verified.stdout + verified.stderr).splitlines() if "ragft" in line]
    assert ours == []


def test_every_unit_is_tested() -> None:
    assert {file.stem for file in UNITS.glob("*.service")} == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_runs_an_installed_program_with_few_rights(service: str) -> None:
    unit = settings(service)
    assert Path(command(service)[0]).is_file()
    assert unit["User"] == ["ragft"]
    assert unit["EnvironmentFile"] == ["/etc/ragft/ragft.env"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ProtectHome"] == ["yes"]


def test_nothing_listens_beyond_this_machine() -> None:
    webserver, code = command("ragft-webserver"), command("ragft-code")
    assert webserver[webserver.index("--host") + 1] == "127.0.0.1"
    assert not {"--port", "-p", "--host", "-h"} & set(code)
    (server,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert server["grpc_server"]["socket"] == code[code.index("--socket") + 1]
    assert "0.0.0.0" not in "".join(f.read_text("utf-8") for f in DEPLOY.rglob("*") if f.is_file())


def test_a_restart_of_the_code_server_leaves_its_runs_alone() -> None:
    unit = settings("ragft-code")
    assert unit["KillMode"] == ["process"]
    assert "PrivateTmp" not in unit  # it would go with the server
    assert "PrivateDevices" not in unit  # the GPU


def test_no_secret_is_in_a_file() -> None:
    assert variables()["PGPASSWORD"] == ""
    for file in DEPLOY.rglob("*"):
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        assert not re.search(r"(?i)(password|secret|token)\w*[ \t]*[:=][ \t]*(?!\{env:)\S", text), (
            file
        )
        assert not re.search(r"://[^/\s]*:[^/\s]*@", text), file


def test_the_example_names_every_variable_that_dagster_reads() -> None:
    text = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\{env: (\w+)\}", text)) <= set(variables())
    assert variables()["DAGSTER_HOME"] in {
        f"/var/lib/{folder}" for folder in settings("ragft-daemon")["StateDirectory"][0].split()
    }
