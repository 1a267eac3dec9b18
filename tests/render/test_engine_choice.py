"""Which engine is taken: the fastest that gives TensorFlow's picture, measured once."""

import dataclasses
import json
import shutil
import time

import numpy as np
import pytest

from facegan import image as image_lib
from facegan.bundle import TensorSpec, read_manifest, write_manifest
from facegan.errors import BundleError, ConfigError
from facegan.render.engine import EngineConfig, load_engine
from facegan.render.engine_choice import (
    choose_engine,
    default_cache_file,
    describe_difference,
    sample_batch,
)
from tests.toy_bundle import export_puppet, repeat_drawing

# So many frames, in batches of 4 that take a tenth of a second, are 5 minutes.
LONG = 12_000


class Clock:
    """Time that passes only when something is run."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Shop:
    """Engines that take a set time, and note what was loaded and run."""

    def __init__(self, **seconds):
        self.clock, self.seconds, self.loaded = Clock(), seconds, []
        self.shift, self.failing, self.precision = {}, {}, {}
        self.busy, self.date_s = False, 1e9

    def engines(self):
        return {name: self._loader(name) for name in self.seconds}

    def _loader(self, name):
        shop = self

        class ShopEngine:
            def __init__(self, bundle_dir, manifest, config):
                shop.loaded.append(name)
                if name in shop.failing:
                    raise shop.failing[name]
                self.name, self.manifest = name, manifest
                self.precision = shop.precision.get(name, "float32")

            def generate(self, inputs):
                shop.clock.now_s += shop.seconds[name]
                return np.minimum(inputs["condition"], 200) + np.uint8(shop.shift.get(name, 0))

        return ShopEngine

    def choose(self, bundle, cache, *, frames=LONG, batch_size=4, **config):
        self.loaded.clear()
        engine, choice = choose_engine(
            bundle,
            EngineConfig(**config),
            batch_size=batch_size,
            num_frames=frames,
            cache_file=cache,
            engines=self.engines(),
            clock=self.clock,
            is_busy=lambda: self.busy,
            now=lambda: self.date_s,
        )
        assert engine.name == choice.engine
        return choice


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("choice") / "bundle"
    export_puppet(path, repeat_drawing, size=32)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "engines.json"


@pytest.fixture
def shop():
    pytest.importorskip("openvino")  # the fixed order begins with it
    return Shop(openvino=0.1, onnxruntime=0.05, tensorflow=0.2)


def test_the_fastest_is_taken_whichever_it_is(bundle, cache, shop):
    choice = shop.choose(bundle, cache)
    assert (choice.engine, choice.reason) == ("onnxruntime", "measured")
    assert choice.batch_seconds == pytest.approx(
        {"openvino": 0.1, "onnxruntime": 0.05, "tensorflow": 0.2}
    )
    assert sorted(shop.loaded) == ["onnxruntime", "openvino", "tensorflow"]  # each once
    shop.seconds["tensorflow"] = 0.01
    assert shop.choose(bundle, cache.with_name("other.json")).engine == "tensorflow"


def test_what_was_measured_is_remembered_for_short_renders_too(bundle, cache, shop):
    first = shop.choose(bundle, cache)
    again = shop.choose(bundle, cache, frames=10)
    assert again == dataclasses.replace(first, reason="remembered")
    assert shop.loaded == ["onnxruntime"]


def test_what_was_measured_beside_other_work_is_believed_for_a_day(bundle, cache, shop):
    shop.busy = True
    assert shop.choose(bundle, cache).engine == "onnxruntime"
    shop.seconds["tensorflow"], shop.busy = 0.01, False
    shop.date_s += 80_000
    assert shop.choose(bundle, cache).reason == "remembered"
    shop.date_s += 10_000
    choice = shop.choose(bundle, cache)
    assert (choice.engine, choice.reason) == ("tensorflow", "measured")
    shop.date_s += 1e8
    assert shop.choose(bundle, cache).reason == "remembered"


def test_short_renders_take_the_fixed_order_untimed(bundle, cache, shop):
    for frames in (None, 1, 199):
        choice = shop.choose(bundle, cache, frames=frames)
        assert (choice.engine, choice.reason, choice.batch_seconds) == (
            "openvino",
            "fixed order",
            {},
        )
    assert not cache.exists()


def test_quick_renders_time_the_usual_engine_once_and_keep_it(bundle, cache, shop):
    choice = shop.choose(bundle, cache, frames=1000)  # 25 s
    assert (choice.engine, choice.reason) == ("openvino", "fixed order")
    assert shop.loaded == ["openvino"] and set(choice.batch_seconds) == {"openvino"}
    # Its time is not taken again: a render that goes on decides as it did at first.
    shop.seconds["openvino"] = 100.0
    assert shop.choose(bundle, cache, frames=1000).reason == "fixed order"
    assert shop.choose(bundle, cache, frames=LONG).reason == "measured"


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 8}, {"num_threads": 1}, {"precision": "bfloat16"}],
    ids=["batch", "threads", "precision"],
)
def test_other_circumstances_are_measured_anew(bundle, cache, shop, change):
    shop.choose(bundle, cache)
    assert shop.choose(bundle, cache, **change, frames=2 * LONG).reason == "measured"
    assert shop.choose(bundle, cache).reason == "remembered"


def test_another_bundle_is_measured_anew(bundle, cache, shop, tmp_path):
    shop.choose(bundle, cache)
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    write_manifest(other, dataclasses.replace(read_manifest(bundle), training={"step": 2}))
    assert shop.choose(other, cache).reason == "measured"
    assert shop.choose(bundle, cache).reason == "remembered"


DAMAGED = {
    "empty": "",
    "no JSON": '{"version": 1, "measure',
    "not UTF-8": b"\xff\xfe\x00",
    "a list": "[]",
    "another version": '{"version": 2, "measurements": []}',
    "no list": '{"version": 1, "measurements": {"a": 1}}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_cache_is_none(bundle, cache, shop, text):
    cache.parent.mkdir()
    cache.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert shop.choose(bundle, cache).reason == "measured"
    assert shop.choose(bundle, cache).reason == "remembered"


ENTRIES = {
    "negative": {"batch_seconds": {"openvino": -1.0}},
    "text": {"batch_seconds": {"openvino": "0.1"}},
    "infinite": {"batch_seconds": {"openvino": float("inf")}},
    "unknown": {"batch_seconds": {"abacus": 0.1}},
    "nothing": {"batch_seconds": {}},
    "left out": {"left_out": [1]},
    "tried": {"all_tried": "yes"},
}


@pytest.mark.parametrize("change", ENTRIES.values(), ids=ENTRIES)
def test_a_damaged_entry_is_none(bundle, cache, shop, change):
    shop.choose(bundle, cache)
    data = json.loads(cache.read_text())
    data["measurements"][0].update(change)
    cache.write_text(json.dumps(data))
    assert shop.choose(bundle, cache).reason == "measured"


def test_a_cache_that_cannot_be_written_is_no_error(bundle, shop, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "engines.json", tmp_path):
        assert shop.choose(bundle, place).reason == "measured"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_remembered_engine_that_fails_now_is_measured_anew(bundle, cache, shop):
    shop.choose(bundle, cache)
    shop.failing["onnxruntime"] = BundleError("The file is gone.")
    choice = shop.choose(bundle, cache)
    assert (choice.engine, choice.reason) == ("openvino", "measured")
    assert choice.left_out == {"onnxruntime": "The file is gone."}


def test_engines_that_fail_or_differ_are_left_out_with_a_sentence(bundle, cache, shop, caplog):
    shop.shift["onnxruntime"] = 2
    shop.failing["openvino"] = RuntimeError("no such\n operation")
    choice = shop.choose(bundle, cache)
    assert choice.engine == "tensorflow"
    assert choice.left_out["openvino"] == "no such operation"
    assert "differs by up to 2 codes of 255" in choice.left_out["onnxruntime"]
    assert "The engine onnxruntime is left out: Its result is not TensorFlow's" in caplog.text
    shop.shift["onnxruntime"] = 1
    assert shop.choose(bundle, cache.with_name("other.json")).engine == "onnxruntime"


def test_reduced_precision_may_differ_by_more(bundle, cache, shop):
    shop.shift["onnxruntime"] = 3
    shop.precision["onnxruntime"] = "bfloat16"
    assert shop.choose(bundle, cache).engine == "onnxruntime"
    shop.shift["onnxruntime"] = 9
    assert shop.choose(bundle, cache.with_name("other.json")).engine == "openvino"


def test_when_none_can_run_it_the_usual_one_says_why(bundle, cache, shop):
    shop.failing = {name: BundleError(f"{name} cannot") for name in shop.seconds}
    with pytest.raises(BundleError, match="openvino cannot"):
        shop.choose(bundle, cache)


def test_a_given_engine_is_not_measured(bundle, cache, shop):
    choice = shop.choose(bundle, cache, name="tensorflow")
    assert (choice.engine, choice.reason) == ("tensorflow", "given")
    assert shop.loaded == ["tensorflow"] and not cache.exists()


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_file() == tmp_path / "facegan" / "engines.json"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_cache_file() == tmp_path / "home" / ".cache" / "facegan" / "engines.json"


def test_what_counts_as_the_same_result():
    picture = TensorSpec(name="image", shape=(None, 2, 2, 3))
    codes = np.full((1, 2, 2, 3), 100, np.uint8)
    assert describe_difference(codes, codes + np.uint8(1), picture, exact=True) is None
    # From 0 to 255, not around: unsigned numbers must not wrap.
    assert "255" in describe_difference(codes * 0, codes * 0 + 255, picture, exact=True)
    assert "shape" in describe_difference(codes, codes[:, :1], picture, exact=True)
    embedding = TensorSpec(name="embedding", shape=(None, 4), value_range=None)
    numbers = np.float32([[1.0, -2.0, 3.0, 0.0]])
    assert describe_difference(numbers, numbers + np.float32(5e-5), embedding, exact=True) is None
    assert "0.0002" in describe_difference(
        numbers, numbers + np.float32(2e-4), embedding, exact=True
    )
    assert describe_difference(numbers, numbers * np.float32(1.05), embedding, exact=False) is None
    assert "20" in describe_difference(numbers, numbers * np.float32(1.2), embedding, exact=False)
    assert "finite" in describe_difference(numbers, numbers * np.nan, embedding, exact=False)
    ids = TensorSpec(name="label_map", shape=(None, 40, 40), dtype="uint8", value_range=None)
    labels = np.zeros((1, 40, 40), np.uint8)
    one, many = labels.copy(), labels.copy()
    one[0, 0, 0], many[0, 0] = 7, 7
    assert describe_difference(labels, one, ids, exact=True) is None
    assert "2.50% of the ids" in describe_difference(labels, many, ids, exact=True)


def test_samples_fit_every_kind_of_input_and_have_large_pieces():
    specs = (
        TensorSpec(name="image", shape=(None, 64, 48, 3)),
        TensorSpec(name="map", shape=(None, 64, 48), dtype="uint8", value_range=(0, 18)),
        TensorSpec(name="masks", shape=(None, 64, 48, 7), value_range=(0.0, 1.0)),
        TensorSpec(name="points", shape=(None, 68, 2), value_range=(0.0, 64.0)),
        TensorSpec(name="style", shape=(None, 16), value_range=None),
        TensorSpec(name="domain", shape=(None,), dtype="int32", value_range=(0.0, 1.0)),
        TensorSpec(name="truncation", shape=(None,), value_range=(0.0, 1.0)),
    )
    batch = sample_batch(specs, 3, 64)
    for spec in specs:
        value = batch[spec.name]
        assert value.shape == (3, *spec.shape[1:])
        assert value.dtype == ("uint8" if spec.is_image else spec.dtype)
        if spec.value_range is not None and not spec.is_image:
            assert value.min() >= spec.value_range[0] and value.max() <= spec.value_range[1]
    assert (batch["masks"].sum(-1) == 1).all() and len(np.unique(batch["map"])) > 5
    assert (np.diff(batch["map"].astype(int), axis=1) != 0).mean() < 0.2
    assert not np.array_equal(batch["image"][0], batch["image"][1])
    # Sizes that are free are those of the picture that is generated.
    free = TensorSpec(name="image", shape=(None, None, None, 3))
    ids = TensorSpec(name="map", shape=(None, None, None), dtype="int32", value_range=(0, 3))
    batch = sample_batch((free, ids), 2, 48)
    assert batch["image"].shape == (2, 48, 48, 3) and batch["map"].shape == (2, 48, 48)


@pytest.fixture(scope="module")
def pix2pix(tmp_path_factory):
    """A small U-Net, batch norm folded and all, as SavedModel and ONNX file."""
    pytest.importorskip("tf2onnx")
    from facegan.export.onnx import write_onnx
    from facegan.export.saved_model import ServingSpec, export_bundle
    from facegan.models.pix2pix import UNetConfig, UNetGenerator, fold_batch_norm

    model = UNetGenerator(UNetConfig(image_size=64, base_width=8))
    model.build({"condition": (None, 64, 64, 3)})
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "gamma" in variable.path or "variance" in variable.path:
            variable.assign(random.uniform(0.5, 1.5, tuple(variable.shape)))
        elif "kernel" in variable.path:
            variable.assign(random.normal(0.0, 0.1, tuple(variable.shape)))
    spec = ServingSpec(
        model=fold_batch_norm(model),
        inputs=(TensorSpec(name="condition", shape=(None, 64, 64, 3)),),
        outputs=(TensorSpec(name="image", shape=(None, 64, 64, 3)),),
    )
    path = tmp_path_factory.mktemp("pix2pix") / "bundle"
    export_bundle(path, spec, model_name="pix2pix", image_size=64)
    write_onnx(path)
    return path, model


def test_all_engines_agree_in_float32(pix2pix):
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    path, model = pix2pix
    manifest = read_manifest(path)
    batch = sample_batch(manifest.inputs, 3, 64)
    expected = np.asarray(model({"condition": image_lib.to_float(batch["condition"])}))
    assert expected.std() > 0.1  # else all would agree on grey
    for name in ("tensorflow", "onnxruntime", "openvino"):
        engine = load_engine(path, name)
        assert engine.precision == "float32"
        got = engine.generate(batch)
        assert np.abs(got.astype(int) - image_lib.to_uint8(expected).astype(int)).max() <= 1
        # The value before rounding is within 1e-4 of every code that was rounded to.
        distance = np.abs((expected + 1) * 127.5 - got)
        assert distance.max() <= 0.5 + 1e-4 * 127.5


def test_real_engines_are_measured_and_compared(pix2pix, cache):
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    # A clock that runs a thousand times as fast makes the render long enough.
    engine, choice = choose_engine(
        pix2pix[0],
        EngineConfig(),
        batch_size=2,
        num_frames=10_000,
        cache_file=cache,
        clock=lambda: 1000.0 * time.perf_counter(),
    )
    assert choice.reason == "measured" and choice.left_out == {}
    assert set(choice.batch_seconds) == {"tensorflow", "onnxruntime", "openvino"}
    assert engine.name == min(choice.batch_seconds, key=choice.batch_seconds.get)
    assert engine.generate(sample_batch(engine.manifest.inputs, 1, 64)).shape == (1, 64, 64, 3)


def test_a_precision_that_none_has_is_refused(bundle, cache):
    with pytest.raises(ConfigError, match="has no precision 'bfloat16'"):
        choose_engine(
            bundle,
            EngineConfig(name="tensorflow", precision="bfloat16"),
            batch_size=1,
            num_frames=1,
            cache_file=cache,
        )
