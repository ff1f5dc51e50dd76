"""The wheel alone, in a fresh virtual environment, without a compiler: what docs/python.md begins with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HERE, System, environment

WHEELS = os.environ.get("GIOSTRA_WHEELS")


needs_wheel = pytest.mark.skipif(
    WHEELS is None and os.environ.get("CI") != "true", reason="GIOSTRA_WHEELS names no folder: just test makes one"
)


@needs_wheel
@pytest.mark.parametrize("tool", [["auditwheel", "show"], ["abi3audit", "--strict", "--report"]])
def test_the_wheel_runs_where_its_name_says(tool: list[str]) -> None:
    assert WHEELS is not None
    (wheel,) = Path(WHEELS).glob("*.whl")
    said = subprocess.run([sys.executable, "-m", *tool, wheel], capture_output=True, text=True, check=True)
    if tool[0] == "auditwheel":
        tag = re.search(r"manylinux_\d+_\d+_\w+?(?=\.whl)", wheel.name)
        assert tag is not None and f'platform tag: "{tag[0]}"' in " ".join(said.stdout.split()), said.stdout
    else:
        (audited,) = json.loads(said.stdout)["specs"].values()
        assert [file["result"]["is_abi3_baseline_compatible"] for file in audited["wheel"]] == [True], said.stdout


@needs_wheel
def test_a_newcomers_lines_run_from_the_wheel_alone(system: System, tmp_path: Path) -> None:
    assert WHEELS is not None
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    # No compiler in the PATH, no index.
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", WHEELS, "giostra"]
    subprocess.run(install, check=True, env=environment(PATH=str(python.parent)))
    page = (HERE.parent.parent / "docs/python.md").read_text()
    for name in ("tasks.py", "main.py"):
        code = re.search(rf"In `{name}`:\n\n```python\n(.*?)```", page, re.DOTALL)
        assert code is not None
        (tmp_path / name).write_text(code[1])
    worker = system.start([str(python), "tasks.py"], cwd=tmp_path, env=system.variables(PATH=str(python.parent)))
    worker.line("registered")
    client = [str(python), "main.py"]
    done = subprocess.run(
        client, cwd=tmp_path, env=system.variables(), capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "CIAO!!!\n['UNO!', 'DUE!', 'TRE!']\n"
