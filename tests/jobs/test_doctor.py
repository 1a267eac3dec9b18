import importlib.metadata

import pytest

from facegan.errors import ConfigError
from facegan.jobs import doctor


def test_this_environment_is_found_healthy():
    report = doctor.check_installation(train_step=False)
    assert report["ok"], report["problems"]
    assert report["versions"]["tensorflow"] == importlib.metadata.version("tensorflow")
    assert report["devices"]["cpu_cores"] >= 1
    assert report["devices"]["memory_mib"] > 500
    assert report["extras"]["dlib"]["installed"]
    assert report["train_step"] is None


@pytest.mark.slow
def test_the_training_step_gives_numbers():
    report = doctor.check_installation()
    assert report["ok"]
    assert report["train_step"]["terms"]["G/l1"] > 0


def test_two_opencvs_are_a_problem_with_a_remedy(tmp_path, monkeypatch):
    for name in ("opencv_python-4.11.0", "opencv_contrib_python_headless-4.11.0"):
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        distribution, _, version = name.rpartition("-")
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: {version}\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    report = doctor.check_installation(train_step=False)
    assert not report["ok"]
    (problem,) = report["problems"]
    assert problem.startswith(
        "opencv-contrib-python and opencv-python and opencv-contrib-python-headless overwrite"
    )
    assert problem.endswith("&& pip install opencv-contrib-python")


def test_another_keras_backend_is_a_problem(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    (problem,) = doctor.check_installation(train_step=False)["problems"]
    assert "KERAS_BACKEND is 'jax'" in problem


def test_missing_packages_and_libraries_are_named(monkeypatch):
    monkeypatch.setitem(doctor._CORE, "no_such_module", ("no-such-distribution",))
    monkeypatch.setitem(doctor._LIBRARIES, "cv2", {"libNoSuch.so.7": "libnosuch7"})
    problems = doctor.check_installation(train_step=False)["problems"]
    assert any("Not installed: no-such-distribution." in problem for problem in problems)
    assert any("libNoSuch.so.7" in p and p.endswith("install libnosuch7") for p in problems)


def test_a_missing_extra_is_no_problem_but_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(doctor._EXTRAS, "fancy", ("fancy things", {"no_such": ("no-such",)}))
    report = doctor.check_installation(train_step=False)
    assert report["ok"]
    assert report["extras"]["fancy"] == {
        "installed": False,
        "for": "fancy things",
        "install": "pip install 'facegan[fancy]'",
    }


def test_a_preset_s_parameters_and_memory():
    report = doctor.describe_preset("pix2pix_256", overrides=("data.batch_size=1",))
    assert report["parameters"] == {"generator": 54_413_955, "discriminator": 2_768_705}
    memory = report["memory_mib"]
    # 57.2 million float32 weights and two moments of each.
    assert memory["weights"] == pytest.approx(218, abs=1)
    assert memory["optimizer"] == pytest.approx(436, abs=1)
    assert memory["training_step"] == pytest.approx(
        sum(v for k, v in memory.items() if k != "training_step"), abs=3
    )
    assert report["batch_size"] == 1


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'pix2pix_tiny'"):
        doctor.describe_preset("pix2pix_tinny")
