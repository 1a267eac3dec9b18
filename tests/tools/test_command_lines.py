"""What every tool has in common: quick help with an example, and one sentence for a wrong flag."""

import json
import pathlib
import re
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = sorted(
    path.stem for path in (ROOT / "tools").glob("*.py") if path.stem not in ("__init__", "program")
)


def test_the_design_s_tools_are_there():
    assert set(TOOLS) >= {
        "vid2vid",
        "build_dataset",
        "align_faces",
        "train",
        "export",
        "render_video",
        "doctor",
        "demo",
    }


@pytest.mark.parametrize("name", TOOLS)
def test_help_is_quick_and_has_an_example(run_tool, name, tmp_path):
    seconds = []
    for _ in range(3):  # the least of three: other work on the machine is not the tool's
        start = time.perf_counter()
        code, out, err = run_tool(name, "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert (code, err) == (0, "")
        if seconds[-1] < 1.0:
            break
    assert min(seconds) < 1.0, f"{name} --help took {min(seconds):.2f} s"
    assert f"Example:\n  tools/{name}.py" in out
    assert "--dry_run" in out


@pytest.mark.parametrize("name", TOOLS)
def test_the_example_uses_flags_that_exist(run_tool, name):
    _, out, _ = run_tool(name, "--help")
    example, _, listing = out.partition("\nFlags:\n")
    used = set(re.findall(r"--(\w+)", example.partition("Example:\n")[2]))
    known = set(re.findall(r"^  --(\w+)", listing, flags=re.MULTILINE))
    assert used <= known


@pytest.mark.parametrize("name", TOOLS)
def test_a_misspelt_flag_is_refused(refused, name):
    assert "Unknown command line flag 'dry_rum'. Did you mean: dry_run?" in refused(
        name, "--dry_rum"
    )


def test_a_tool_runs_as_a_module_too():
    done = subprocess.run(
        [sys.executable, "-m", "tools.doctor", "--dry_run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"would": "check the installation"}
