import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError
from facegan.render import engine as engine_module
from facegan.render.engine import EngineConfig
from facegan.render.opened import FolderBundle, open_bundle
from facegan.render.remote import RemoteBundle
from tests.fake_face import DrawingEngine


def test_a_folder_is_opened(served_models):
    folder = served_models / "domains" / "1"
    bundle = open_bundle(folder)
    assert bundle.manifest == read_manifest(folder)
    assert bundle.describe() == {"bundle": str(folder), "model": "puppet"}
    assert bundle.engine is bundle.engine and bundle.methods is bundle.methods


def test_a_saved_model_is_loaded_once(served_models, monkeypatch):
    loads, load = [], engine_module._load_saved_model

    def counted(tf, folder):
        loads.append(folder)
        return load(tf, folder)

    monkeypatch.setattr(engine_module, "_load_saved_model", counted)
    bundle = open_bundle(served_models / "domains" / "1", "tensorflow")
    assert bundle.engine.name == "tensorflow"
    assert bundle.methods.find_input("map_style", "latent").shape == (None, 4)
    assert len(loads) == 1
    assert open_bundle(served_models / "domains" / "1").methods and len(loads) == 2


def test_a_given_engine_is_taken(served_models):
    engine = DrawingEngine()
    bundle = open_bundle("no folder", engine=engine)
    assert bundle.engine is engine and bundle.manifest is engine.manifest
    assert isinstance(open_bundle("grpc://host:1/toy", engine=engine), FolderBundle)


def test_a_folder_that_is_none_is_refused_when_it_is_looked_into():
    with pytest.raises(BundleError, match="is no bundle"):
        assert open_bundle("no folder").manifest


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_is_opened(front, scheme):
    bundle = open_bundle(front.url(scheme, "domains"), "auto")
    assert isinstance(bundle, RemoteBundle)
    assert bundle.engine is bundle.engine and bundle.methods is bundle.methods
    told = bundle.describe()
    assert told["bundle"] == front.url(scheme, "domains") and told["model"] == "puppet"
    assert told["server"]["version"] == 1 and "map_style" in told["server"]["signatures"]


def test_addresses_and_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="no address of a server"):
        open_bundle("ftp://host/toy")
    for config in ("tensorflow", EngineConfig(num_threads=2)):
        with pytest.raises(ConfigError, match="leave the engine"):
            open_bundle("grpc://localhost:1/toy", config)
