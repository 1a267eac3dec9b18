import dataclasses
import json
from typing import ClassVar, Literal

import pytest

from facegan import config as config_lib
from facegan.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Circle:
    KIND: ClassVar[str] = "circle"
    radius: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    KIND: ClassVar[str] = "square"
    side: int = 2

    def __post_init__(self):
        config_lib.require_power_of_two("side", self.side, 2, 64)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    name: str
    shape: Circle | Square = Circle()
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 0.5)
    mode: Literal["fast", "exact"] = "fast"
    limit: int | None = None
    bright: bool = False
    extra: dict[str, float] = dataclasses.field(default_factory=dict)


FULL = Scene(
    name="a",
    shape=Square(side=8),
    sizes=(3,),
    pair=(2, 0.25),
    mode="exact",
    limit=4,
    bright=True,
    extra={"x": 1.0},
)


@pytest.mark.parametrize("scene", [Scene(name="b"), FULL])
def test_json_round_trip(scene):
    text = json.dumps(config_lib.encode(scene))
    assert config_lib.decode(Scene, json.loads(text)) == scene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shpae": {}}, "Unknown key 'shpae'.*Did you mean 'shape'"),
        ({"mode": "exakt"}, "mode must be one of fast, exact.*Did you mean 'exact'"),
        ({"limit": "many"}, "limit must be a whole number, got 'many'"),
        ({"limit": True}, "limit must be a whole number, got True"),
        ({"bright": 1}, "bright must be true or false, got 1"),
        ({"sizes": [1, 2.5]}, r"sizes\[1\] must be a whole number, got 2.5"),
        ({"sizes": 3}, "sizes must be a list, got 3"),
        ({"pair": [1]}, "pair must have 2 items, got 1"),
        ({"extra": {"x": "y"}}, "extra.x must be a number"),
        ({"shape": {"kind": "sqare", "side": 4}}, "shape.kind must be one of.*'square'"),
        ({"shape": {"kind": "square", "side": 6}}, "side must be a power of two, one of 2, 4"),
        ({"shape": {"kind": "circle", "radius": float("nan")}}, "finite"),
        ({"shape": 5}, "shape"),
    ],
)
def test_decode_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        config_lib.decode(Scene, {"name": "a", **change})


def test_decode_names_a_missing_key_and_a_wrong_document():
    with pytest.raises(ConfigError, match="'name' is missing"):
        config_lib.decode(Scene, {})
    with pytest.raises(ConfigError, match="must be an object"):
        config_lib.decode(Scene, [1])
    with pytest.raises(ConfigError, match="kind must be 'circle', got 'square'"):
        config_lib.decode(Circle, {"kind": "square"})


def test_whole_numbers_are_numbers_but_not_the_reverse():
    assert config_lib.decode(Circle, {"radius": 2}).radius == 2.0
    assert isinstance(config_lib.decode(Circle, {"radius": 2}).radius, float)


def test_set_by_name_goes_through_the_decoder():
    scene = config_lib.set_by_name(FULL, ["shape.side=16", "mode=fast", "sizes=[7,8]"])
    assert scene.shape == Square(side=16)
    assert scene.mode == "fast"
    assert scene.sizes == (7, 8)
    assert FULL.shape == Square(side=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape.side", "name=value"),
        ("shape.sdie=4", "Unknown key 'sdie' in 'shape'.*'side'"),
        ("mode.fast=1", "single value"),
        ("shape.side=5", "power of two"),
    ],
)
def test_set_by_name_refuses(text, message):
    with pytest.raises(ConfigError, match=message):
        config_lib.set_by_name(FULL, [text])


def test_a_union_can_change_its_kind():
    scene = config_lib.set_by_name(FULL, ['shape={"kind": "circle"}'])
    assert scene.shape == Circle()


def test_read_and_write_json(tmp_path):
    path = tmp_path / "a.json"
    config_lib.write_json(path, {"x": [1, 2]})
    assert config_lib.read_json(path) == {"x": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    path.write_text("{")
    with pytest.raises(ConfigError, match="a.json is not a JSON file"):
        config_lib.read_json(path)
    with pytest.raises(ConfigError, match="Cannot read .*missing.json"):
        config_lib.read_json(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="Cannot write"):
        config_lib.write_json(tmp_path / "no" / "a.json", {})
