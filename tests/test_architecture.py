"""The rules that hold the code base together, read from its own source."""

import ast
import configparser
import importlib
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import time

import pytest

import facegan

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_LINES = 700

# The most specific prefix counts. A module may import lower levels and its own package.
LEVELS = {
    "facegan.errors": 0,
    "facegan.config": 0,
    "facegan.image": 0,
    "facegan.progress": 0,
    "facegan.bundle": 1,
    "facegan.face": 1,
    "facegan.video": 1,
    "facegan.layers": 1,
    "facegan.losses": 1,
    "facegan.models": 2,
    "facegan.preparation": 2,
    "facegan.datasets": 2,
    "facegan.samples": 2,
    "facegan.training": 3,
    "facegan.evaluation": 3,
    "facegan.export": 3,
    "facegan.convert": 3,
    "facegan.render": 3,
    "facegan.jobs": 4,
    "facegan": 4,
    "tools": 5,
    "facegan.tools": 5,
}

# (importing prefix, forbidden prefix), whether the import stands at the top or inside a function.
FORBIDDEN = [
    ("facegan.losses", "facegan.models"),
    ("facegan.losses", "facegan.layers"),
    ("facegan.models", "facegan.datasets"),
    ("facegan.datasets", "facegan.models"),
    ("facegan.training", "facegan.datasets"),
    ("facegan.training.trainer", "facegan.training.recipes"),
    ("facegan.render", "facegan.models"),
    ("facegan.render", "facegan.training"),
    ("facegan.render", "facegan.datasets"),
    ("facegan.render", "facegan.export"),
    ("facegan.video", "keras"),
    ("facegan.video", "tensorflow"),
    ("facegan.layers", "tensorflow"),
    ("facegan.models", "tensorflow"),
    ("facegan.losses", "tensorflow"),
    ("facegan.face", "keras"),
    ("facegan.bundle", "keras"),
    ("facegan.bundle", "tensorflow"),
    ("facegan.face.labels", "tensorflow"),
    ("facegan.preparation", "tensorflow"),
    ("facegan.preparation", "tensorflow_datasets"),
    ("facegan.preparation", "facegan.datasets"),
    ("facegan.preparation", "facegan.models"),
]

# What a module may not import while it is itself being imported. A function may.
FORBIDDEN_AT_TOP = [
    ("facegan.errors", "facegan"),
    ("facegan.config", "tensorflow"),
    ("facegan.image", "tensorflow"),
    ("facegan.progress", "tensorflow"),
    ("facegan.face", "tensorflow"),
    ("facegan.jobs.vid2vid", "tensorflow"),
    ("facegan.jobs.video_job", "tensorflow"),
    ("facegan.jobs.spade_video", "tensorflow"),
    ("tools", "tensorflow"),
    ("tools", "keras"),
    ("tools", "numpy"),
    ("tools", "cv2"),
    ("tools", "facegan.jobs"),
]

# One pair may share a level: within it, packages of equal level do not know each other ...
SAME_LEVEL_ALLOWED = {
    ("facegan.config", "facegan.errors"),
    ("facegan.image", "facegan.errors"),
    ("facegan.progress", "facegan.errors"),
    # ... but for those, which only add an exception to the table.
    ("facegan.datasets", "facegan.preparation"),
}

# A file with a TensorFlow form of an operation beside its plain one: the one exception there is.
FAST_PATHS = {"facegan/layers/label_windows.py"}

FILLED_INITS = {"facegan/__init__.py", "facegan/models/__init__.py", "facegan/datasets/__init__.py"}

# A module that is imported only where its optional package is known to be there.
WRAPPERS = {"facegan/preparation/beam_pipeline.py": "apache_beam"}

# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "cv2": "opencv-contrib-python",
    "PIL": "pillow",
    "tensorflow_datasets": "tensorflow-datasets",
    "dlib": "dlib-bin",
    "skimage": "scikit-image",
}


def module_name(path):
    """facegan/face/align.py -> facegan.face.align."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders):
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def imports_of(path):
    """(imported dotted name, whether it runs when the module is imported, line number)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path)
    if path.name != "__init__.py":
        package = package.rpartition(".")[0]
    found = []

    def visit(node, at_top):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child, at_top)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_top, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            found.extend((f"{base}.{alias.name}", at_top, node.lineno) for alias in node.names)
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_top and not inner)

    visit(tree, True)
    return found


def starts_with(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def group_of(name):
    """The entry of LEVELS that a dotted name belongs to."""
    fitting = [prefix for prefix in LEVELS if starts_with(name, prefix)]
    return max(fitting, key=len)


SOURCES = python_files("facegan", "tools")
MODULES = [p for p in SOURCES if p.name != "__init__.py"]


def relative(path):
    return path.relative_to(ROOT).as_posix()


# facegan/__init__.py names every level, lazily, and so stands above them.
@pytest.mark.parametrize("path", [p for p in SOURCES if module_name(p) != "facegan"], ids=relative)
def test_imports_go_down_the_levels(path):
    importer = module_name(path)
    own = group_of(importer)
    wrong = []
    for imported, at_top, line in imports_of(path):
        if imported == "facegan.__version__" or not starts_with(imported, "facegan"):
            target = None
        else:
            target = group_of(imported)
        if target is not None and target != own and (own, target) not in SAME_LEVEL_ALLOWED:
            if LEVELS[target] >= LEVELS[own]:
                wrong.append(f"{relative(path)}:{line} ({own}) imports {imported} ({target})")
        rules = FORBIDDEN + (FORBIDDEN_AT_TOP if at_top else [])
        if relative(path) in FAST_PATHS and not at_top:
            rules = [rule for rule in rules if rule[1] != "tensorflow"]
        for who, what in rules:
            if starts_with(importer, who) and starts_with(imported, what):
                wrong.append(f"{relative(path)}:{line} imports {imported}: {who} may not")
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_sees_every_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "facegan" / "face" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import typing\nfrom facegan import config\n"
        "from . import align\nfrom ..image import resize\n"
        "if typing.TYPE_CHECKING:\n    import tensorflow\nelse:\n    import json\n"
        "try:\n    import dlib\nexcept ImportError:\n    dlib = None\n"
        "class A:\n    import keras\n    def f(self):\n        import cv2\n"
    )
    assert [(name, top) for name, top, _ in imports_of(path)] == [
        ("typing", True),
        ("facegan.config", True),
        ("facegan.face.align", True),
        ("facegan.image.resize", True),
        ("json", True),
        ("dlib", True),
        ("keras", True),
        ("cv2", False),
    ]


@pytest.mark.parametrize("package", ["layers", "models", "losses"])
def test_networks_are_backend_neutral(package):
    pattern = re.compile(r"\btf\.\w|\btensorflow\b")
    wrong = []
    for path in python_files(f"facegan/{package}"):
        if relative(path) in FAST_PATHS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        if "tf" in names or any(pattern.match(name) for name, _, _ in imports_of(path)):
            wrong.append(relative(path))
    assert not wrong, f"TensorFlow in backend-neutral files: {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_has_a_collected_test_file(path):
    parts = path.relative_to(ROOT).parts
    folders = parts[1:-1] if parts[0] == "facegan" else parts[:-1]
    if parts[-1].endswith("_dataset_builder.py"):
        # TFDS wants a builder in a package of its own; its tests stand one folder up.
        folders = folders[:-1]
    test = ROOT.joinpath("tests", *folders, f"test_{parts[-1]}")
    assert test.is_file(), f"{relative(path)} has no {test.relative_to(ROOT)}"
    tree = ast.parse(test.read_text(encoding="utf-8"))
    names = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    assert any(name.startswith("test_") for name in names), f"{test} collects no test"


def test_no_test_folder_is_a_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_sub_package_inits_are_empty():
    filled = {
        relative(p)
        for p in SOURCES
        if p.name == "__init__.py" and p.read_text(encoding="utf-8").strip()
    }
    # A TFDS builder's folder carries its class for `tfds.load`; that is one import, no code.
    assert filled <= FILLED_INITS, f"these must stay empty: {sorted(filled - FILLED_INITS)}"


@pytest.mark.parametrize(
    "path", python_files("facegan", "tools", "tests", "benchmarks"), ids=relative
)
def test_files_are_short(path):
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= MAX_LINES, f"{relative(path)} has {count} lines, at most {MAX_LINES}"


def test_names_say_what_a_file_is_about():
    vague = {"utils.py", "util.py", "misc.py", "common.py", "helpers.py", "helper.py"}
    assert not [relative(p) for p in SOURCES if p.name in vague]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirement_names(text):
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    names = (re.match(r"[A-Za-z0-9_.-]+", line) for line in lines if line)
    return {normal(name.group()) for name in names if name}


def normal(distribution):
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_setup_cfg_lists_every_package():
    listed = set(setup_cfg()["options"]["packages"].split())
    present = {module_name(p) for p in python_files("facegan") if p.name == "__init__.py"}
    assert listed == present | {"facegan.tools"}


def test_every_imported_distribution_is_declared():
    parser = setup_cfg()
    declared = requirement_names(parser["options"]["install_requires"])
    for extra in parser["options.extras_require"].values():
        declared |= requirement_names(extra)
    missing = set()
    for path in SOURCES:
        for name, _, line in imports_of(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ("facegan", "tools", ""):
                continue
            if normal(DISTRIBUTIONS.get(top, top)) not in declared:
                missing.add(f"{relative(path)}:{line} imports {top}")
    assert not missing, "\n".join(sorted(missing))


def test_heavy_optional_packages_are_not_imported_at_the_top():
    parser = setup_cfg()
    core = requirement_names(parser["options"]["install_requires"])
    wrong = []
    for path in SOURCES:
        for name, at_top, line in imports_of(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ("facegan", "tools", "") or not at_top:
                continue
            if (
                normal(DISTRIBUTIONS.get(top, top)) not in core
                and WRAPPERS.get(relative(path)) != top
            ):
                wrong.append(f"{relative(path)}:{line} imports {top}")
    assert not wrong, "\n".join(wrong)


def test_every_console_script_exists():
    lines = setup_cfg()["options.entry_points"]["console_scripts"].split("\n")
    for line in filter(None, (entry.strip() for entry in lines)):
        _, _, target = line.partition(" = ")
        module, _, function = target.partition(":")
        path = ROOT / "tools" / f"{module.removeprefix('facegan.tools.')}.py"
        names = [
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        ]
        assert function in names, f"{target} does not exist"


def test_public_names_are_complete():
    assert len(set(facegan.__all__)) == len(facegan.__all__)
    for name in facegan.__all__:
        assert getattr(facegan, name) is not None
        assert name in dir(facegan)
    missing = "no_such_name"
    with pytest.raises(AttributeError, match=missing):
        getattr(facegan, missing)


def test_public_names_are_documented():
    for name in facegan.__all__:
        value = getattr(facegan, name)
        if name != "__version__":
            assert (value.__doc__ or "").strip(), f"facegan.{name} has no docstring"


def test_import_is_quick_and_light():
    code = (
        "import sys, time; start = time.perf_counter(); import facegan; "
        "print(time.perf_counter() - start); "
        "heavy = {'tensorflow', 'keras', 'numpy', 'cv2', 'av', 'dlib'} & set(sys.modules); "
        "assert not heavy, heavy; facegan.ConfigError; assert 'numpy' not in sys.modules"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    whole_s = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.0, f"import facegan took {done.stdout} s (process {whole_s} s)"


def test_version_is_the_changelogs():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{facegan.__version__}]" in text


def test_sources_name_no_machine_and_no_registry():
    # Spelled in parts, so that this file does not find itself.
    pattern = re.compile(
        r"(^|[^\w.])/(work|farm|root)(/|\b)|py" + r"pi\.org|python" + r"hosted|npm" + r"js\.org"
    )
    wrong = []
    for path in [*SOURCES, *python_files("tests", "benchmarks"), *ROOT.glob("*.md")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line) and path != pathlib.Path(__file__).resolve():
                wrong.append(f"{relative(path)}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_every_module_can_be_imported():
    for path in python_files("facegan"):
        importlib.import_module(module_name(path))
