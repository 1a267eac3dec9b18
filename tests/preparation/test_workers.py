import os
import signal
import subprocess
import sys
import time

import pytest

from facegan.errors import ConfigError, DataError
from facegan.preparation.items import Item
from facegan.preparation.parts import PartFolder, cut_parts
from facegan.preparation.workers import WorkersConfig, default_processes, run_parts
from tests.slow_work import SlowWork


def _parts(count, **special):
    items = [Item(f"i{n}", (f"f{n}",), (n,), special.get(f"i{n}", {})) for n in range(count)]
    return cut_parts({"train": items}, {}, 2)


def _recorder():
    import contextlib

    seen = []

    @contextlib.contextmanager
    def factory(label):
        yield lambda done, total, unit: seen.append((label, done, total, unit))

    return seen, factory


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_every_part_is_made_and_progress_told(tmp_path, processes):
    parts, folder = _parts(7), PartFolder(tmp_path / "w")
    seen, factory = _recorder()
    run_parts(parts, folder, SlowWork(), WorkersConfig(processes=processes), factory, label="Read")
    assert folder.done() == {part.name for part in parts}
    assert seen[0] == ("Read", 0, 7, "item") and seen[-1] == ("Read", 7, 7, "item")
    seen.clear()
    run_parts(parts, folder, SlowWork(), WorkersConfig(processes=processes), factory)
    assert seen == [("Prepare", 7, 7, "item")]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crash_and_a_hang_cost_one_item_each(tmp_path, processes):
    parts = _parts(6, i1={"die": True}, i4={"sleep": 60})
    folder = PartFolder(tmp_path / "w")
    run_parts(parts, folder, SlowWork(), WorkersConfig(processes=processes, time_limit_s=2))
    left_out = [entry for part in parts for entry in folder.read_summary(part.name).left_out]
    assert {entry.file: entry.reason for entry in left_out} == {"f1": "crashed", "f4": "too_slow"}
    assert sum(folder.read_summary(part.name).num_records for part in parts) == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_cannot_be_written_ends_the_build_with_a_sentence(tmp_path, processes):
    parts, folder = _parts(4), PartFolder(tmp_path / "w")
    folder.plan(parts)
    for part in parts:
        # Where the records should appear stands a folder.
        (tmp_path / "w" / f"{part.name}.records").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        run_parts(parts, folder, SlowWork(), WorkersConfig(processes=processes))


SCRIPT = """
import sys
from facegan.preparation.items import Item
from facegan.preparation.parts import PartFolder, cut_parts
from facegan.preparation.workers import WorkersConfig, run_parts
from tests.slow_work import SlowWork
items = [Item(f"i{n}", (f"f{n}",), (n,), {"sleep": 0.1}) for n in range(60)]
parts = cut_parts({"train": items}, {}, 2)
folder = PartFolder(sys.argv[1])
print(len(folder.done()) if __import__("os").path.isdir(sys.argv[1]) else 0, flush=True)
run_parts(parts, folder, SlowWork(), WorkersConfig(processes=int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("processes", "number"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)]
)
def test_a_stopped_build_goes_on_with_what_is_done(tmp_path, processes, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "w"), str(processes)]
    kwargs = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    build = subprocess.Popen(command, **kwargs)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "w").glob("*.done.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    build.send_signal(number)
    build.communicate(timeout=30)
    assert build.returncode != 0
    again = subprocess.run(command, timeout=120, check=True, **kwargs)
    assert 4 <= int(again.stdout) < 30
    folder = PartFolder(tmp_path / "w")
    names = folder.done()
    assert len(names) == 30
    assert sum(len(list(folder.read_records(name))) for name in names) == 60


def test_numbers_are_checked():
    with pytest.raises(ConfigError, match="processes"):
        WorkersConfig(processes=-1)
    with pytest.raises(ConfigError, match="time_limit_s"):
        WorkersConfig(time_limit_s=0)
    assert default_processes() >= 1
