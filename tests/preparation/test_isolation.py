import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.preparation.isolation import IsolatedWorker, Stopped
from facegan.preparation.items import Item, Rejected
from tests.slow_work import SlowWork


def _item(**data):
    return Item("item", ("item",), (1,), data)


def test_calls_run_in_one_other_process():
    with IsolatedWorker(os.getpid, time_limit_s=60) as call:
        first = call()
        assert first != os.getpid() and call() == first


def test_results_come_back_whole():
    with IsolatedWorker(SlowWork(size=4), time_limit_s=60) as call:
        outcome = call(_item())
    ((key, record),) = outcome.records
    assert key == "item" and record["pictures"] == [b"one", b"", b"three"]
    np.testing.assert_array_equal(record["array"], np.arange(4, dtype=np.float32))


def test_a_crash_is_a_rejection_and_the_next_call_works():
    with IsolatedWorker(SlowWork(), time_limit_s=60) as call:
        with pytest.raises(Rejected, match="SIGSEGV") as caught:
            call(_item(die=True))
        assert caught.value.reason == "crashed"
        assert call(_item()).counts == {"made": 1}


def test_a_crash_that_does_not_come_again_costs_nothing(tmp_path):
    with IsolatedWorker(exec, time_limit_s=60) as call:
        path = tmp_path / "seen"
        code = f"import os, pathlib\np = pathlib.Path({str(path)!r})\n"
        code += "if not p.exists():\n    p.touch()\n    os.abort()"
        assert call(code) is None and path.exists()


def test_closing_from_elsewhere_is_not_a_crash():
    call = IsolatedWorker(time.sleep, time_limit_s=60)
    timer = threading.Timer(0.5, call.close)
    timer.start()
    with pytest.raises(Stopped):
        call(30)
    with pytest.raises(Stopped):
        call(0)


def test_signals_to_the_group_are_the_parents_matter():
    with IsolatedWorker(exec, time_limit_s=60) as call:
        code = "import os, signal\nfor n in (2, 15, 1):\n    os.kill(os.getpid(), n)"
        assert call(code) is None


def test_an_exit_is_told_with_what_was_said():
    with IsolatedWorker(sys.exit, time_limit_s=60) as call:
        with pytest.raises(Rejected, match="exit code 1 and said 'out of luck'"):
            call("out of luck")


def test_what_takes_too_long_is_given_up():
    with IsolatedWorker(time.sleep, time_limit_s=0.5) as call:
        start = time.monotonic()
        with pytest.raises(Rejected, match="longer than 0.5 s") as caught:
            call(60)
        assert caught.value.reason == "too_slow" and time.monotonic() - start < 30
        assert call(0) is None


def test_errors_are_raised_here():
    with IsolatedWorker(SlowWork(), time_limit_s=60) as call:
        with pytest.raises(Rejected, match="item is not wanted") as caught:
            call(_item(reject=True))
        assert caught.value.reason == "rejected"
        with pytest.raises(ZeroDivisionError, match="item"):
            call(_item(fail=True))


def test_an_error_that_cannot_be_pickled_keeps_its_text():
    with IsolatedWorker(_raise_unpicklable, time_limit_s=60) as call:
        with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
            call()


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def _raise_unpicklable():
    raise Odd(1, 2)


def test_what_is_printed_does_not_disturb():
    with IsolatedWorker(print, time_limit_s=60) as call:
        assert call("x" * 100_000) is None
        assert call("y") is None


def test_library_errors_keep_their_class():
    with IsolatedWorker(_raise_config_error, time_limit_s=60) as call:
        with pytest.raises(ConfigError, match="wrong size"):
            call()


def _raise_config_error():
    raise ConfigError("wrong size")


def test_the_child_ends_when_its_parent_is_killed():
    script = (
        "import os, time\n"
        "from facegan.preparation.isolation import IsolatedWorker\n"
        "call = IsolatedWorker(os.getpid, time_limit_s=60)\n"
        "print(call(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def test_the_child_does_not_run_the_callers_script_again(tmp_path):
    script = tmp_path / "no_guard.py"
    script.write_text(
        "import os\n"
        "from facegan.preparation.isolation import IsolatedWorker\n"
        "print('ran')\n"
        "with IsolatedWorker(os.getpid, time_limit_s=60) as call:\n"
        "    print(call() != os.getpid())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.split() == ["ran", "True"]


def test_a_child_is_light():
    script = (
        "import sys; sys.exit(' '.join(m for m in ('tensorflow', 'keras') if m in sys.modules))"
    )
    modules = "isolation items parts workers face_clips"
    imports = "".join(f"import facegan.preparation.{name}\n" for name in modules.split())
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}{script}"], capture_output=True, text=True
    )
    assert done.stderr.strip() == ""
