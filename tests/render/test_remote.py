import dataclasses
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from facegan.bundle import TensorSpec, read_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.render.engine import (
    BundleMethods,
    ConcurrentEngine,
    EngineConfig,
    RemoteConfig,
    load_engine,
)
from facegan.render.opened import open_bundle
from facegan.render.remote import RemoteBundle
from tests.serving_front import Models, ServeError, ServingFront
from tests.toy_bundle import export_toy, image_spec

# What is said over the wire stands in test_wire.py.


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


def config(**changes):
    """Little patience."""
    values = {"request_timeout_s": 10.0, "retry_limit_s": 1.0, **changes}
    return EngineConfig(remote=RemoteConfig(**values))


def codes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def failing(front, times, code="UNAVAILABLE"):
    """Lets the next requests fail; returns the list that they are counted in."""
    asked = []

    def fail(name, signature):
        asked.append(signature)
        if len(asked) <= times:
            raise ServeError(code, "not just now")

    front.models.before_predict = fail
    return asked


def test_pictures_are_those_of_the_folder(front, served_models, scheme):
    engine = load_engine(front.url(scheme, "toy"))
    assert (engine.name, engine.precision) == ("serving", "float32")
    assert isinstance(engine, ConcurrentEngine) and engine.batches_in_flight == 4
    local = load_engine(served_models / "toy" / "1", "tensorflow")
    assert not isinstance(local, ConcurrentEngine)
    for count in (2, 5, 1):
        batch = {"condition": codes(count, count)}
        np.testing.assert_array_equal(engine.generate(batch), local.generate(batch))
    signature = "uint8" if scheme == "grpc" else "encoded"
    assert front.models.answered == [("describe", 1), *((signature, n) for n in (2, 5, 1))]
    with pytest.raises(ConfigError, match="must be uint8 of shape"):
        engine.generate({"condition": codes(1)[:, :16]})


def test_methods_are_those_of_the_folder(front, served_models, scheme):
    folder = served_models / "domains" / "1"
    local = BundleMethods(folder, read_manifest(folder))
    remote = open_bundle(front.url(scheme, "domains")).methods
    random = np.random.default_rng(0)
    for method, inputs in (
        ("map_style", {"latent": random.standard_normal((3, 4)), "domain": [0, 1, 1]}),
        ("encode_style", {"image": random.random((2, 32, 32, 3)), "domain": [1, 0]}),
        ("generate", {"source": random.random((1, 32, 32, 3)), "style": [[0.5, -0.1, 0.2]]}),
    ):
        expected, found = local.run(method, inputs), remote.run(method, inputs)
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    assert remote.find_input("map_style", "latent") == local.find_input("map_style", "latent")
    with pytest.raises(BundleError, match="grpc|http.*no signature 'map' with an input 'latent'"):
        remote.run("map", {"latent": [[0.0]]})
    with pytest.raises(ConfigError, match="Gradients cannot pass the server"):
        remote.run_tensors("map_style", {})


def test_a_server_that_has_no_time_is_asked_again(front, scheme):
    engine = load_engine(front.url(scheme, "toy"), config(retry_limit_s=10.0))
    for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        asked = failing(front, 3, code)
        assert engine.generate({"condition": codes(1)}).shape == (1, 32, 32, 3)
        assert len(asked) == 4


def test_patience_ends(front, scheme):
    engine = load_engine(front.url(scheme, "toy"), config(retry_limit_s=0.6))
    asked = failing(front, 1000)
    start_s = time.monotonic()
    with pytest.raises(BundleError, match=r"cannot be reached \(tried \d times in [01] s\): not"):
        engine.generate({"condition": codes(1)})
    assert 0.2 < time.monotonic() - start_s < 2.0 and 3 <= len(asked) <= 6


def test_what_is_refused_is_not_asked_again(front, scheme):
    engine = load_engine(front.url(scheme, "toy"), config())
    asked = failing(front, 1000, "INVALID_ARGUMENT")
    with pytest.raises(BundleError, match="refuses the request: not just now"):
        engine.generate({"condition": codes(1)})
    assert len(asked) == 1


def test_nobody_is_there(scheme):
    with ServingFront(Models("none")) as gone:
        url = gone.url(scheme, "toy")
    with pytest.raises(BundleError, match=f"{url} cannot be reached .tried . times.*Start it, or"):
        RemoteBundle(url, config(retry_limit_s=0.5))
    with pytest.raises(BundleError, match="tried once"):
        RemoteBundle(url, config(retry_limit_s=0.0))


def test_a_slow_server(front, scheme):
    limits = config(request_timeout_s=0.2, retry_limit_s=0.7)
    engine = load_engine(front.url(scheme, "toy"), config())
    engine._model.config = limits.remote
    front.models.before_predict = lambda name, signature: time.sleep(1.0)
    with pytest.raises(BundleError, match="gives no answer within .*Make the batches smaller"):
        engine.generate({"condition": codes(1)})


def test_a_model_that_is_not_there(front, scheme):
    start_s = time.monotonic()
    for url, asked in (
        (front.url(scheme, "anna"), r"Latest\(anna\)"),
        (front.url(scheme, "toy", 7), r"Specific\(toy, 7\)"),
    ):
        with pytest.raises(BundleError, match=f"has no such model.*not found for request: {asked}"):
            RemoteBundle(url, config(retry_limit_s=30.0))
    assert time.monotonic() - start_s < 10.0


def test_a_model_that_is_loading_is_waited_for(front, scheme):
    front.models.held.add("toy")
    url = front.url(scheme, "toy")
    with pytest.raises(BundleError, match="still loading the model .tried"):
        RemoteBundle(url, config(retry_limit_s=0.3))
    timer = threading.Timer(0.5, front.models.held.clear)
    timer.start()
    assert RemoteBundle(url, config(retry_limit_s=20.0)).manifest.model == "toy"
    timer.join()


@pytest.fixture
def two_versions(tmp_path):
    """A server that keeps all versions of "toy", of which there is one yet, and its folder."""
    export_toy(tmp_path / "toy" / "1")
    with ServingFront(Models(tmp_path, keep_all=True)) as front:
        yield front, tmp_path / "toy"


def test_a_new_version_does_not_mix_in(two_versions, scheme):
    front, folder = two_versions
    url, batch = front.url(scheme, "toy"), {"condition": codes(2)}
    old = open_bundle(url, config())
    first = old.engine.generate(batch)
    export_toy(folder / "2", seed=1)
    np.testing.assert_array_equal(old.engine.generate(batch), first)
    new = open_bundle(url, config())
    assert (new.engine.generate(batch) != first).any()
    assert new.describe()["server"]["version"] == 2
    assert new.manifest.fingerprint() != old.manifest.fingerprint()
    pinned = load_engine(front.url(scheme, "toy", 1), config())
    np.testing.assert_array_equal(pinned.generate(batch), first)
    front.models._keep_all = False
    with pytest.raises(BundleError, match=r"no longer serves version 1 of 'toy'.*Specific\(toy, 1"):
        old.engine.generate(batch)


class Odd(Models):
    """Gives one picture too few."""

    def predict(self, name, version, signature, given):
        outputs, number = super().predict(name, version, signature, given)
        if signature == "describe":
            return outputs, number
        return {key: value[1:] for key, value in outputs.items()}, number


def test_answers_of_another_shape(served_models, scheme):
    with ServingFront(Odd(served_models)) as front:
        engine = load_engine(front.url(scheme, "toy"), config())
        with pytest.raises(BundleError, match=r"asked for uint8 of shape \(3, 32, 32, 3\) and ga"):
            engine.generate({"condition": codes(3)})


class Elsewhere(Models):
    """Gives pictures that are none, under a wrong name if there is one."""

    def predict(self, name, version, signature, given):
        outputs, number = super().predict(name, version, signature, given)
        if signature == "encoded":
            return {key: np.array([b"junk"], object) for key in outputs}, number
        if signature == "uint8":
            return {"else": outputs["image"]}, number
        return {key: np.array([b"{}"], object) for key in outputs}, number


def test_answers_that_make_no_sense(served_models, front, scheme):
    with ServingFront(Elsewhere(served_models)) as odd:
        with pytest.raises(BundleError, match="must be 'bundle'"):
            RemoteBundle(odd.url(scheme, "toy"), config())
        engine = load_engine(front.url(scheme, "toy"), config())
        front.models.predict = odd.models.predict
        with pytest.raises(BundleError, match="cannot be read|gave no 'image', only"):
            engine.generate({"condition": codes(1)})


def test_another_version_than_was_asked_for(front):
    engine, predict = load_engine(front.url("grpc", "toy"), config()), front.models.predict
    front.models.predict = lambda *given: (predict(*given)[0], 9)
    with pytest.raises(BundleError, match="answered with version 9 .* version 1 was asked for"):
        engine.generate({"condition": codes(1)})


class Mirror(tf.Module):
    """A model as an earlier version exported it: it does not tell what it is."""

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.uint8, name="condition")])
    def mirror(self, condition):
        return {"image": condition[:, :, ::-1]}


def test_a_model_that_does_not_say_what_it_is(served_models, tmp_path, scheme):
    mirror = Mirror()
    for number, name in ((1, "uint8"), (2, "other")):
        folder = tmp_path / "mirror" / str(number)
        tf.saved_model.save(mirror, str(folder), signatures={name: mirror.mirror})
    with ServingFront(Models(tmp_path, keep_all=True)) as front:
        url = front.url(scheme, "mirror", 1)
        with pytest.raises(BundleError, match="no signature 'describe', only uint8. Export it ag"):
            RemoteBundle(url, config())
        # Its folder tells.
        engine = RemoteBundle(url, config(bundle=str(served_models / "toy" / "1"))).engine
        batch = codes(2)
        np.testing.assert_array_equal(engine.generate({"condition": batch}), batch[:, :, ::-1])
        with pytest.raises(BundleError, match="is not the model that .* serves"):
            RemoteBundle(url, config(bundle=str(served_models / "domains" / "1")))
        remote = RemoteBundle(
            front.url(scheme, "mirror", 2), config(bundle=str(served_models / "toy" / "1"))
        )
        with pytest.raises(BundleError, match="no signature 'uint8', only other. Export it again"):
            assert remote.engine


def test_a_folder_beside_the_server_has_to_be_the_same_model(front, served_models, scheme):
    url = front.url(scheme, "toy")
    told = RemoteBundle(url, config()).manifest
    same = RemoteBundle(url, config(bundle=str(served_models / "toy" / "1"))).manifest
    assert same == told
    with pytest.raises(BundleError, match="is not the model"):
        RemoteBundle(url, config(bundle=str(served_models / "domains" / "1")))


def test_waiting_can_be_ended(front, scheme):
    engine = load_engine(front.url(scheme, "toy"), config(retry_limit_s=60.0))
    asked, errors = failing(front, 1000), []

    def generate():
        try:
            engine.generate({"condition": codes(1)})
        except BundleError as error:
            errors.append(str(error))

    thread = threading.Thread(target=generate)
    thread.start()
    while len(asked) < 3:
        time.sleep(0.01)
    engine.interrupt()
    thread.join(5.0)
    assert len(errors) == 1 and "was interrupted" in errors[0]
    failing(front, 0)
    assert engine.generate({"condition": codes(1)}).shape == (1, 32, 32, 3)


def test_settings_that_cannot_be(front):
    for changes in (
        {"requests_in_flight": 0},
        {"request_timeout_s": 0.0},
        {"request_timeout_s": float("nan")},
        {"retry_limit_s": -1.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            RemoteConfig(**changes)
    with pytest.raises(ConfigError, match="computes in float32 and has no precision 'bfloat16'"):
        RemoteBundle(front.url("http", "toy"), EngineConfig(precision="bfloat16"))


def test_connections_close_with_the_engine(front):
    engine = load_engine(front.url("http", "toy"))
    assert len(front._rest.connections) == 1
    del engine
    deadline = time.monotonic() + 5.0
    while front._rest.connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_without_a_file_format_go_as_numbers(tmp_path, served_models):
    from facegan.bundle import write_manifest

    # A bundle without encoded pictures, as earlier versions wrote them.
    folder = tmp_path / "toy" / "1"
    shutil.copytree(served_models / "toy" / "1", folder)
    loaded = tf.saved_model.load(str(folder))
    kept = {name: loaded.signatures[name] for name in ("uint8", "describe")}
    tf.saved_model.save(loaded, str(tmp_path / "bare" / "1"), signatures=kept)
    write_manifest(folder, dataclasses.replace(read_manifest(folder), signatures=tuple(kept)))
    with ServingFront(Models(tmp_path)) as front:
        engine = load_engine(front.url("http", "bare"), config())
        local = load_engine(served_models / "toy" / "1", "tensorflow")
        batch = {"condition": codes(2)}
        np.testing.assert_array_equal(engine.generate(batch), local.generate(batch))
        assert front.models.answered[-1] == ("uint8", 2)


class Regions:
    """Tells light from dark, or paints ids."""

    def __call__(self, inputs):
        return tf.cast(tf.reduce_mean(inputs["image"], axis=-1) > 0.0, tf.uint8) * 17


def test_maps_of_ids_come_through(tmp_path, scheme):
    labels = TensorSpec(name="labels", shape=(None, 16, 16), dtype="uint8", value_range=(0.0, 18.0))
    spec = ServingSpec(model=Regions(), inputs=(image_spec("image", 16),), outputs=(labels,))
    folder = tmp_path / "parser" / "1"
    export_bundle(folder, spec, model_name="regions", image_size=16)
    batch = {"image": codes(3)[:, :16, :16]}
    expected = load_engine(folder, "tensorflow").generate(batch)
    assert set(np.unique(expected)) == {0, 17}
    with ServingFront(Models(tmp_path)) as front:
        made = load_engine(front.url(scheme, "parser"), config()).generate(batch)
    np.testing.assert_array_equal(made, expected)
    assert made.dtype == np.uint8
