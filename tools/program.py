"""How every tool starts, reports and ends.

A tool is a module with flags, a ``main`` that returns its result as a mapping, and a ``run`` that
passes both to ``run_program``. What the user then sees is the same everywhere:

    --help          the tool's text and its flags, in under a second
    stdout          the result as one JSON object, nothing else
    stderr          progress, and at the end one sentence if something went wrong
    exit code 0     done
              1     not done through no fault of the input; doctor: something needs a hand
              2     a flag, a file or the machine's state is in the way
              130   interrupted (143: by SIGTERM); what is finished stays
"""

from __future__ import annotations

import contextlib
import errno
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import re
import signal
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

try:
    from absl import flags

    from facegan.errors import ConfigError, FaceganError
except ModuleNotFoundError as error:
    sys.stderr.write(
        f"facegan is not installed for {sys.executable}: {error}. Run ./scripts/demo once and use "
        ".venv/bin/python, or install with `pip install .` as BUILD.md says.\n"
    )
    sys.exit(2)

FLAGS = flags.FLAGS

flags.DEFINE_bool("dry_run", False, "Say what would be done, as JSON, and do nothing.")
flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

# Errors of the operating system that the user can do something about.
_USER_ERRNOS = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EISDIR,
        errno.EMFILE,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    )
)

# What TensorFlow's own errors say when the machine, not the code, is at its end.
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_OUT_OF_MEMORY = ("OOM when allocating", "Out of memory", "failed to allocate memory")

# Shared libraries that a bare system lacks -> Debian packages that bring them.
SYSTEM_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, made an exception so that temporary files are removed on the way out."""


def run_program(main: Callable[[], Mapping[str, Any]]) -> None:
    """Parses the command line, runs ``main`` and exits.

    Args:
        main: Does the job and returns its result. An entry ``"ok": False`` exits with code 1.
    """
    name = _tool_name(main)
    _parse_flags(main, name)
    # Read when TensorFlow and Keras are first imported, which no tool does before this line.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("GLOG_minloglevel", "2")
    sys.meta_path.insert(0, _QuietTensorFlow())
    with contextlib.suppress(ValueError):  # not in the main thread: signals are not ours
        signal.signal(signal.SIGTERM, _on_sigterm)
    with _only_the_result_on_stdout() as write_result:
        code = _run(main, name, write_result)
    sys.exit(code)


def _run(main: Callable[[], Mapping[str, Any]], name: str, write: Callable[[str], None]) -> int:
    try:
        result = main()
        write(json.dumps(result, indent=2, default=str) + "\n")
        return 0 if result.get("ok", True) else 1
    except KeyboardInterrupt as error:
        _say(name, f"interrupted. {_how_to_go_on()}")
        return 143 if isinstance(error, _Terminated) else 130
    except BrokenPipeError:
        return 0  # whoever read stdout has seen enough
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        if _is_stopped_training(error):
            _say(name, f"{error} {_how_to_go_on()}")
            return 130
        if FLAGS.debug:
            traceback.print_exc()
        message, code = explain(error)
        if code == 1 and not FLAGS.debug:
            message += f" {_keep_traceback(name)}"
        _say(name, message)
        return code


def _is_stopped_training(error: BaseException) -> bool:
    # The trainer turns a signal into an error of its own, once its checkpoint is written.
    trainer = sys.modules.get("facegan.training.trainer")
    return trainer is not None and isinstance(error, trainer.Interrupted)


def explain(error: BaseException) -> tuple[str, int]:
    """One sentence for an error, and the exit code: 2 if the user can mend it, else 1."""
    text = " ".join(str(error).split())
    if isinstance(error, FaceganError):
        return _without_keras_frame(text), 2
    for library, package in SYSTEM_LIBRARIES.items():
        if isinstance(error, ImportError) and library in text:
            return (
                f"The system library {library} is missing. On Debian and Ubuntu: "
                f"apt-get install {package}",
                2,
            )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("facegan"):
        return (
            f"The Python package {error.name!r} is not installed for {sys.executable}. "
            "tools/doctor.py lists what is missing and how to install it.",
            2,
        )
    if any(sign in text for sign in _DISK_FULL):
        return f"The disk is full: {_shorten(text)} Free some space and run again.", 2
    if isinstance(error, OSError) and error.errno in _USER_ERRNOS:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}.", 2
    if isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return (
            "The memory is not enough. Use a smaller batch or image size; "
            "tools/doctor.py --params PRESET tells what a training step needs.",
            2,
        )
    return f"Unexpected {type(error).__name__}: {_shorten(text)}", 1


def _without_keras_frame(text: str) -> str:
    """What a layer said, without the call and the arguments that Keras writes around it."""
    found = re.match(r"Exception encountered when calling \S+ \x1b\[1m(.*?)\x1b\[0m ", text)
    return found[1] if found else text


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Keeps away the lines that TensorFlow writes to stderr while it is first imported.

    It writes them before it reads its log level, so no setting does. The import can stand
    anywhere, or nowhere: most of what a tool refuses, it refuses without TensorFlow.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_quietly(module: Any) -> None:
            with _stderr_set_aside():
                execute(module)
                # The search for devices is what writes most.
                module.config.list_physical_devices()

        spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _stderr_set_aside() -> Iterator[None]:
    """Shows what was written to stderr only if it ends in an error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(saved, log.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def define_video_job_flags(preset: str) -> None:
    """Defines the flags of a job that learns a face from one video and renders another with it."""
    flags.DEFINE_string("style", None, "Video of the person who is to be seen.", required=True)
    flags.DEFINE_string("content", None, "Video that is followed.", required=True)
    flags.DEFINE_string(
        "output", None, "The video to write: .mp4, .mov, .m4v, .mkv.", required=True
    )
    flags.DEFINE_integer("size", 128, "Height and width of what is learnt, a power of two.")
    flags.DEFINE_integer("steps", None, "Training steps (default: the preset's).", lower_bound=1)
    flags.DEFINE_string("preset", preset, "What is trained.")
    flags.DEFINE_multi_string("set", [], "One value of it, as train.seed=1; may be given often.")
    flags.DEFINE_float("holdout", 0.0, "Last part of the style video kept for measuring, as 0.2.")
    flags.DEFINE_integer("max_frames", 1000, "Most frames learnt from; 0 takes all.", lower_bound=0)
    define_face_flags()
    define_retarget_flag()
    flags.DEFINE_string(
        "work_dir", None, "Where all work is kept (default: <output>_work beside it)."
    )
    flags.DEFINE_bool("overwrite", False, "Replace an output that is there.")


def define_retarget_flag() -> None:
    """Defines the flag that says whether proportions are adapted."""
    flags.DEFINE_bool("retarget", True, "Bring the face into the learnt person's proportions.")


def chosen_video_job() -> dict[str, Any]:
    """What these flags say, as fields of a ``VideoJobConfig``."""
    return {
        **{name: FLAGS[name].value for name in ("style", "content", "output", "size", "steps")},
        "preset": FLAGS.preset,
        "overrides": tuple(FLAGS.set),
        "holdout": FLAGS.holdout,
        "max_frames": FLAGS.max_frames or None,
        "face": chosen_face(),
        "detector": chosen_detector(),
        "retarget": FLAGS.retarget,
        "work_dir": FLAGS.work_dir,
    }


def define_region_flags() -> None:
    """Defines the flags about the regions of a face."""
    define_parser_flag()
    flags.DEFINE_string("background", None, "Colour of the background, as 255,250,250; or keep.")
    define_steadying_flags()


def define_steadying_flags() -> None:
    """Defines the flags that say how regions are steadied and mended."""
    flags.DEFINE_string("rules", None, "JSON file of rules that change regions.")
    flags.DEFINE_enum(
        "steady_regions", "majority", ["off", "majority"], "How regions are steadied over time."
    )


def define_parser_flag() -> None:
    """Defines the flag that says what finds the regions of faces."""
    flags.DEFINE_string(
        "parser", None, "Bundle of a face parser (default: landmarks and colours alone)."
    )


def chosen_parser() -> Any:
    """The ``ParserConfig`` that the flags choose."""
    from facegan.face.parsing import ParserConfig

    return ParserConfig(bundle=FLAGS.parser)


def chosen_label_deflicker() -> Any:
    """The ``LabelDeflickerConfig`` that the flags choose."""
    from facegan.video.label_deflicker import LabelDeflickerConfig

    return LabelDeflickerConfig(method=FLAGS.steady_regions)


def chosen_colour(flag: str, default: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """The colour that a flag names; None for "keep".

    Raises:
        ConfigError: It is neither three codes nor "keep".
    """
    text = FLAGS[flag].value
    if text is None:
        return default
    if text == "keep":
        return None
    codes = text.split(",")
    if len(codes) != 3 or not all(code.strip().isdecimal() for code in codes):
        raise ConfigError(f"--{flag} must be three codes, as 255,250,250, or keep; got {text!r}.")
    return (int(codes[0]), int(codes[1]), int(codes[2]))


def define_face_flags() -> None:
    """Defines the flags that say which face is taken and what finds it."""
    flags.DEFINE_string("face", "largest", "Which face: largest, or 0, 1, ... by size.")
    define_detector_flags()


def define_provenance_flags(what: str) -> None:
    """Defines the flags that make videos say that they are synthetic; ``what`` ends the texts."""
    flags.DEFINE_bool(
        "provenance",
        False,
        "Say in the video's metadata that it is synthetic, and in <output>.provenance.json what "
        f"it was made of and with{what}.",
    )
    label = flags.Flag(
        _OptionalText(),
        None,
        "visible_label",
        None,
        "Write AI-generated, or =TEXT, into the corner of every frame, those that show the source "
        f"included{what}.",
        boolean=True,  # that is how absl lets a value be left out
    )
    flags.DEFINE_flag(label)


class _OptionalText(flags.ArgumentParser):
    """What is given as --flag=TEXT, or the usual text where there is only --flag."""

    def parse(self, argument: str | bool) -> str | None:
        if argument in (False, "false"):
            return None
        if argument in (True, "true"):
            from facegan.video.visible_label import DEFAULT_TEXT

            return DEFAULT_TEXT
        return str(argument)

    def flag_type(self) -> str:
        return "optional text"


def define_server_flags() -> None:
    """Defines, beside --bundle, the flags that say where and by what a model is run."""
    flags.DEFINE_string(
        "server",
        None,
        "TensorFlow Serving that runs the bundle, instead of its folder: grpc://host:8500/model or "
        "http://host:8501/model, with /versions/N if wanted.",
    )
    flags.DEFINE_integer("requests_in_flight", 4, "Batches at a time on the way to a server.")
    flags.DEFINE_float("request_timeout_s", 30.0, "How long one answer of a server is waited for.")
    flags.DEFINE_float("retry_limit_s", 60.0, "How long a server that fails is asked again.")
    flags.DEFINE_enum(
        "engine",
        "auto",
        ["auto", "tensorflow", "onnxruntime", "openvino"],
        "What runs the network here; auto takes what is usually the fastest of what is installed, "
        "and for a long video measures it once.",
    )


def chosen_bundle() -> str:
    """The bundle that the flags name, by its folder or its server's address.

    Raises:
        ConfigError: None is named, or flags are given that do not go with it.
    """
    if FLAGS.server is not None:
        refuse_given("engine", why="is for a network that runs here, and --server names another")
        return FLAGS.server
    if FLAGS.bundle is None:
        raise ConfigError("--bundle or --server must be given.")
    of_servers = ("requests_in_flight", "request_timeout_s", "retry_limit_s")
    refuse_given(*of_servers, why="is for a --server")
    return FLAGS.bundle


def chosen_engine() -> Any:
    """The ``EngineConfig`` that the flags choose."""
    from facegan.render.engine import EngineConfig, RemoteConfig

    remote = RemoteConfig(
        requests_in_flight=FLAGS.requests_in_flight,
        request_timeout_s=FLAGS.request_timeout_s,
        retry_limit_s=FLAGS.retry_limit_s,
        bundle=None if FLAGS.server is None else FLAGS.bundle,
    )
    return EngineConfig(name=FLAGS.engine, remote=remote)


def define_detector_flags() -> None:
    """Defines the flags that say what finds faces."""
    flags.DEFINE_enum("detector", "dlib", ["dlib", "mediapipe"], "What finds the face.")
    flags.DEFINE_string("detector_model", None, "mediapipe's face_landmarker.task file.")


def chosen_face() -> str | int:
    """The face that the flags choose.

    Raises:
        ConfigError: It is neither a word nor a number.
    """
    if FLAGS.face == "largest":
        return "largest"
    if not FLAGS.face.isdecimal():
        raise ConfigError(f"--face must be largest, or 0, 1, ... by size; got {FLAGS.face!r}.")
    return int(FLAGS.face)


def chosen_detector() -> Any:
    """The ``DetectorConfig`` that the flags choose."""
    from facegan.face.landmarks import DetectorConfig

    return DetectorConfig(name=FLAGS.detector, model_path=FLAGS.detector_model)


def require_flags(*names: str) -> None:
    """Raises ConfigError unless every named flag is given."""
    missing = [f"--{name}" for name in names if FLAGS[name].value is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} must be given; --help has an example.")


def refuse_both(first: str, second: str) -> None:
    """Raises ConfigError if two flags that exclude each other are given."""
    if FLAGS[first].value and FLAGS[second].value:
        raise ConfigError(f"--{first} and --{second} exclude each other; give one of them.")


def refuse_given(*names: str, why: str) -> None:
    """Raises ConfigError if one of the flags is given; ``why`` goes on after its name."""
    for name in names:
        if FLAGS[name].present:
            raise ConfigError(f"--{name} {why}; leave it out.")


def refuse_occupied(flag: str, folder: str) -> None:
    """Raises ConfigError if a folder to be written holds something, unless --overwrite is given."""
    if os.path.isdir(folder) and not os.listdir(folder):
        return
    _refuse_existing(flag, folder)


def refuse_existing_file(flag: str, path: str) -> None:
    """Raises ConfigError if a file to be written is there, unless --overwrite is given."""
    if os.path.isdir(path):
        raise ConfigError(f"--{flag} {path} is a folder; name a file.")
    _refuse_existing(flag, path)


def check_videos(paths: Sequence[str]) -> None:
    """Raises VideoError for the first file that is no video, before anything slow is imported."""
    from facegan.video.reader import probe_clip

    for path in paths:
        probe_clip(path)


def _refuse_existing(flag: str, path: str) -> None:
    if os.path.lexists(path) and not FLAGS.overwrite:
        raise ConfigError(
            f"--{flag} {path} is there already. Add --overwrite to replace it, or name another."
        )


def _parse_flags(main: Callable[..., Any], name: str) -> None:
    try:
        if {"--help", "-help", "-h", "--helpshort", "--helpfull"} & set(_before_dashes(sys.argv)):
            sys.stdout.write(_help_text(main))
            sys.exit(0)
        rest = FLAGS(sys.argv)
        if len(rest) > 1:
            raise flags.Error(
                f"{rest[1]!r} belongs to no flag: every value is given as --flag=value or "
                "--flag value"
            )
    except flags.Error as error:
        sys.stderr.write(f"{name}: {_flag_sentence(error)} See {name} --help.\n")
        sys.exit(2)


def _flag_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).removeprefix("flag ").replace(" ?", "?")
    missing = re.fullmatch(r"(--\w+)=None: .* must have a value other than None\.?", text)
    if missing:
        return f"{missing.group(1)} must be given."
    return text if text.endswith(("?", ".")) else f"{text}."


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[1 : argv.index("--")] if "--" in argv else argv[1:]


def _help_text(main: Callable[..., Any]) -> str:
    document = inspect.getmodule(main).__doc__ or ""  # type: ignore[union-attr]
    lines = [document.strip(), "", "Flags:"]
    modules = FLAGS.flags_by_module_dict()
    # A tool's own flags first, then those that it shares with others.
    listed = sorted(modules, key=lambda module: module == __name__)
    own = [flag for name in listed if not name.startswith("absl.") for flag in modules[name]]
    for flag in sorted(own, key=lambda flag: flag.name in ("dry_run", "debug")):
        value = "" if flag.boolean else f"={_value_name(flag)}"
        value = "[=TEXT]" if flag.flag_type() == "optional text" else value
        default = flag.default
        shown = f" (default: {default})" if default not in (None, False, "", []) else ""
        # absl adds a line to flags that may be repeated, and the choices to those that have some.
        about = re.sub(r"^<[^>]*>: ", "", flag.help.partition(";\n")[0])
        body = textwrap.wrap(
            f"{about}{shown}", 98, initial_indent="      ", subsequent_indent="      "
        )
        lines += [f"  --{flag.name}{value}", *body]
    return "\n".join(lines) + "\n"


def _value_name(flag: Any) -> str:
    values = getattr(flag.parser, "enum_values", None)
    if values:
        return "|".join(values)
    kinds = {"int": "N", "float": "NUMBER", "multi string": "NAME=VALUE"}
    if flag.flag_type() == "comma separated list of strings":
        return "A,B,..."
    return kinds.get(flag.flag_type(), "TEXT")


def _tool_name(main: Callable[..., Any]) -> str:
    path = inspect.getsourcefile(main) or sys.argv[0]
    return os.path.splitext(os.path.basename(path))[0]


@contextlib.contextmanager
def _only_the_result_on_stdout() -> Iterator[Callable[[str], None]]:
    """Sends everything that anybody prints to stderr; yields the way to the real stdout."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:

        def write(text: str) -> None:
            data = text.encode()
            while data:
                data = data[os.write(real, data) :]

        yield write
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def _on_sigterm(number: int, frame: Any) -> None:
    raise _Terminated


def _how_to_go_on() -> str:
    if "resume" in FLAGS:
        return "Run the same command with --resume to go on from here."
    return "Run the same command again to go on from here."


def _keep_traceback(name: str) -> str:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"facegan-{name}-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exc(file=file)
        return f"This is a fault of facegan; the details are in {file.name}"
    except OSError:
        return "This is a fault of facegan; --debug shows the details."


def _say(name: str, sentence: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{name}: {sentence}\n")
        sys.stderr.flush()


def _shorten(text: str) -> str:
    text = text if len(text) <= 300 else text[:297] + "..."
    return text if text.endswith((".", "!", "?")) else text + "."
