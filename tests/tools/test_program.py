"""The shared start of the tools, on a tiny tool of the test's own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

TOOL = '''"""Does what a test asks for.

Example:
  toy --action result
"""
import os, sys, time
sys.path.insert(0, {root!r})
from absl import flags
from tools import program

FLAGS = flags.FLAGS
flags.DEFINE_string("action", "result", "What to do.")
flags.DEFINE_integer("count", 3, "How often.")
flags.DEFINE_string("needed", None, "Must be there.", required=True)
flags.DEFINE_multi_string("set", [], "One value.")

def main():
    action = FLAGS.action
    if action == "result":
        print("noise from Python")
        os.write(1, b"noise from C\\n")
        return {{"count": FLAGS.count, "dry_run": FLAGS.dry_run, "set": FLAGS.set}}
    if action == "not_ok":
        return {{"ok": False}}
    if action == "config":
        from facegan.errors import ConfigError
        raise ConfigError("size must be a power of two, got 3.")
    if action == "layer":
        import keras
        class Picky(keras.layers.Layer):
            def call(self, x):
                from facegan.errors import ConfigError
                raise ConfigError("Picky takes pictures of 64x64 pixels. Resize them.")
        Picky()(keras.ops.zeros((1, 3)))
    if action == "disk":
        raise OSError(28, "No space left on device", "/somewhere/file")
    if action == "tf_disk":
        raise RuntimeError("UNKNOWN: write failed; No space left on device")
    if action == "memory":
        raise MemoryError
    if action == "missing":
        import no_such_package
    if action == "library":
        raise ImportError("libGL.so.1: cannot open shared object file: No such file")
    if action == "bug":
        return {{"a": 1 / 0}}
    if action == "stopped":
        from facegan.training.trainer import Interrupted
        raise Interrupted("Stopped at step 3 of 8, which is kept as a checkpoint.")
    if action == "wait":
        sys.stderr.write("waiting\\n")
        sys.stderr.flush()
        time.sleep(60)

program.run_program(main)
'''


@pytest.fixture
def start(tmp_path, repo_dir):
    """Starts the toy tool with flags; returns the running process."""
    path = tmp_path / "toy.py"
    path.write_text(TOOL.format(root=str(repo_dir)), encoding="utf-8")
    env = {**os.environ, "TMPDIR": str(tmp_path)}

    def run(*flags):
        return subprocess.Popen(
            [sys.executable, str(path), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )

    return run


@pytest.fixture
def call(start):
    """Runs the toy tool to its end: (exit code, stdout, stderr)."""

    def run(*flags):
        process = start("--needed=x", *flags)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def test_stdout_holds_the_result_and_nothing_else(call):
    code, out, err = call("--count", "5", "--set", "a=1", "--set=b=2")
    assert code == 0
    assert json.loads(out) == {"count": 5, "dry_run": False, "set": ["a=1", "b=2"]}
    assert "noise from Python" in err and "noise from C" in err


def test_a_result_that_is_not_ok_exits_with_1(call):
    assert call("--action=not_ok")[0] == 1


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        ("config", "toy: size must be a power of two, got 3.\n"),
        ("layer", "toy: Picky takes pictures of 64x64 pixels. Resize them.\n"),
        ("disk", "toy: The disk is full: [Errno 28] No space left on device"),
        ("tf_disk", "toy: The disk is full: UNKNOWN: write failed;"),
        ("memory", "toy: The memory is not enough."),
        ("missing", "toy: The Python package 'no_such_package' is not installed for"),
        ("library", "toy: The system library libGL.so.1 is missing. On Debian and Ubuntu: apt-get"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_2(call, action, sentence):
    code, out, err = call(f"--action={action}")
    assert code == 2
    assert out == ""
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_a_bug_keeps_its_traceback_in_a_file(call, tmp_path):
    code, out, err = call("--action=bug")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "Unexpected ZeroDivisionError: division by zero." in err
    (log,) = tmp_path.glob("facegan-toy-*.log")
    assert str(log) in err
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_debug_shows_the_traceback(call, tmp_path):
    code, _, err = call("--action=bug", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert not list(tmp_path.glob("facegan-toy-*.log"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--cuont=3"], "toy: Unknown command line flag 'cuont'. Did you mean: count? See toy "),
        (["--count=many"], "toy: --count=many: invalid literal for int() with base 10: 'many'. "),
        (["stray"], "toy: 'stray' belongs to no flag: every value is given as --flag=value"),
        (["--dry_run=perhaps"], "toy: --dry_run=perhaps: "),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_exit_2(call, flags, sentence):
    code, out, err = call(*flags)
    assert code == 2
    assert out == ""
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1


def test_a_missing_flag_is_named(start):
    process = start("--action=result")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "toy: --needed must be given. See toy --help.\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_the_text_and_every_flag(start, flag):
    process = start(flag)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""
    assert out.startswith(
        "Does what a test asks for.\n\nExample:\n  toy --action result\n\nFlags:\n"
    )
    assert "  --count=N\n      How often. (default: 3)\n" in out
    assert "  --set=NAME=VALUE\n      One value.\n" in out
    assert out.index("--needed") < out.index("--dry_run") < out.index("--debug")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_tool_says_how_to_go_on(start, number, code):
    process = start("--needed=x", "--action=wait")
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - began < 10
    assert err == "toy: interrupted. Run the same command again to go on from here.\n"
    assert out == ""


def test_stopped_training_says_how_to_go_on_with_this_tool(call):
    code, out, err = call("--action=stopped")
    assert (code, out) == (130, "")
    assert err == (
        "toy: Stopped at step 3 of 8, which is kept as a checkpoint. "
        "Run the same command again to go on from here.\n"
    )


def test_a_reader_that_goes_away_is_no_error(start):
    process = start("--needed=x")
    process.stdout.close()
    assert process.stderr.read().count("Traceback") == 0
    process.stderr.close()
    assert process.wait(timeout=60) == 0
