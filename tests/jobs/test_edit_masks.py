import dataclasses
import json

import cv2
import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.config import decode, encode
from facegan.errors import BundleError, ConfigError, DataError, VideoError
from facegan.face.conditioning import MaskConditioner
from facegan.face.label_maps import labels_from_colours
from facegan.face.labels import CELEBAMASK19, GROUPS7, PALETTES, colour_table
from facegan.face.landmarks import DetectorConfig
from facegan.face.mask_groups import draw_colour_map, split_groups
from facegan.face.parsing import ParserConfig
from facegan.face.region_edits import grow_region, move_region
from facegan.image import encode_labels, read_image, to_uint8, write_image
from facegan.jobs.edit_masks import (
    COLUMNS,
    MaskEditConfig,
    edit_masks,
    mask_conditioning,
    paints_maps,
    plan_mask_edit,
    read_region_edits,
)
from facegan.preparation.squares import cut_square
from facegan.samples import sample_portrait
from tests.layout_puppets import export_painter, paint_person, show_person
from tests.toy_bundle import export_toy

SIZE = 64
SKIN, EYES, MOUTH, HAIR = 1, 2, 3, 4
SQUARE = {"full_frame": False}
PALETTE = PALETTES["groups7"]


def export_puppet(path, **conditioning):
    told = {"size": SIZE, "identity": True, "parser": ParserConfig(size=64)}
    return export_painter(path, show_person, **told, **conditioning)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return export_puppet(folder / "puppet")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two people, one of them also mirrored, and a wall."""
    import skimage.data

    root = tmp_path_factory.mktemp("photos")
    hopper = sample_portrait("hopper")
    write_image(root / "a.png", np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352]))
    write_image(root / "b.png", hopper)
    write_image(root / "c.png", np.ascontiguousarray(hopper[:, ::-1]))
    write_image(root / "wall.png", np.full((100, 90, 3), 120, np.uint8))
    return root


@pytest.fixture(scope="module")
def seen(bundle, photos):
    """What the model is shown of the people: masks, colours, identity, and the ids of a map."""
    config = mask_conditioning(read_manifest(bundle))
    conditioner = MaskConditioner(config)
    found = {}
    for name in ("a", "b"):
        photo = read_image(photos / f"{name}.png")
        square = cut_square(
            photo, name, conditioner.crop_size, align=config.align, detector=DetectorConfig()
        )
        shown = conditioner(square.landmarks_xy_px, square.image)
        masks = shown["masks"]
        shown["ids"] = (masks * np.arange(1, 8)).sum(axis=-1).astype(np.uint8)
        found[name] = shown
    return found


def painted(person, ids=None, colours=None):
    ids = person["ids"] if ids is None else ids
    colours = person["colours"] if colours is None else colours
    return to_uint8(paint_person(ids, colours, person["identity"]))


def write_ids(path, ids):
    path.write_bytes(encode_labels(ids))
    return str(path)


def assert_same(one, other):
    assert one.shape == other.shape and np.abs(one.astype(int) - other).max() <= 1


def test_a_face_is_painted_from_its_own_map(bundle, photos, seen, tmp_path):
    result = edit_masks(bundle, photos / "a.png", tmp_path / "a.png", MaskEditConfig(**SQUARE))
    assert_same(read_image(tmp_path / "a.png"), painted(seen["a"]))
    assert result["kind"] == "reconstruction"
    assert result["regions"]["hair"] == round(float((seen["a"]["ids"] == HAIR).mean()), 4)
    json.dumps(result)


def test_another_map_is_painted_in_ones_own_colours(bundle, photos, seen, tmp_path):
    out = tmp_path / "a.png"
    config = MaskEditConfig(**SQUARE, recolour={"hair": "#804020"})
    result = edit_masks(bundle, photos / "a.png", out, config, references=[photos / "b.png"])
    own, other = seen["a"], seen["b"]
    colours = own["colours"].copy()
    missing = [i for i in range(7) if not own["masks"][..., i].any()]
    borrowed = [i for i in missing if other["masks"][..., i].any()]
    colours[borrowed] = other["colours"][borrowed]
    colours[HAIR - 1] = np.array((128, 64, 32)) / 127.5 - 1
    assert_same(read_image(out), painted(own, other["ids"], colours))
    assert result["borrowed"] == [GROUPS7.labels[i + 1] for i in borrowed]
    assert result["changed"] == round(float((own["ids"] != other["ids"]).mean()), 4)
    assert result["reference"] == str(photos / "b.png")


def test_regions_that_the_target_lacks_have_the_references_colours(bundle, photos, seen, tmp_path):
    # Without clothes, as the square of a close portrait.
    photo = read_image(photos / "a.png")[:190]
    write_image(tmp_path / "close.png", photo)
    result = edit_masks(
        *(bundle, tmp_path / "close.png", tmp_path / "out.png", MaskEditConfig(**SQUARE)),
        references=[photos / "b.png"],
    )
    lacking = {name for name, share in result["regions"].items() if not share}
    has = {GROUPS7.labels[i + 1] for i in range(7) if seen["b"]["masks"][..., i].any()}
    assert set(result["borrowed"]) == lacking & has


def test_regions_are_moved_then_grown_then_recoloured(bundle, photos, seen, tmp_path):
    config = MaskEditConfig(
        **SQUARE,
        move={"mouth": (0.1, 0.05)},
        grow={"mouth": 1.5, "eyes": 0.7},
        recolour={"mouth": "#FF0000"},
    )
    result = edit_masks(bundle, photos / "a.png", tmp_path / "a.png", config)
    ids = grow_region(move_region(seen["a"]["ids"], MOUTH, (0.1, 0.05)), MOUTH, 1.5)
    ids = grow_region(ids, EYES, 0.7)
    colours = seen["a"]["colours"].copy()
    colours[MOUTH - 1] = (1, -1, -1)
    assert_same(read_image(tmp_path / "a.png"), painted(seen["a"], ids, colours))
    assert result["kind"] == "edit" and "borrowed" not in result
    assert result["changed"] == round(float((ids != seen["a"]["ids"]).mean()), 4)


def test_a_written_map_can_be_painted_over_and_taken(bundle, photos, seen, tmp_path):
    path = tmp_path / "map.png"
    result = edit_masks(bundle, photos / "a.png", path, MaskEditConfig(write_map=True))
    picture = read_image(path).copy()
    assert result["kind"] == "map"
    np.testing.assert_array_equal(labels_from_colours(picture, PALETTE), seen["a"]["ids"])
    picture[:10] = PALETTE.colours[HAIR]
    large = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)
    write_image(path, large)
    config = MaskEditConfig(**SQUARE, labels=str(path))
    edit_masks(bundle, photos / "a.png", tmp_path / "a.png", config)
    ids = seen["a"]["ids"].copy()
    ids[:10] = HAIR
    assert_same(read_image(tmp_path / "a.png"), painted(seen["a"], ids))
    # An edited map is written, too, and an opaque alpha channel is none.
    bgra = cv2.cvtColor(large, cv2.COLOR_RGB2BGRA)
    cv2.imwrite(str(path), bgra)
    config = MaskEditConfig(write_map=True, labels=str(path), grow={"mouth": 1.5})
    edit_masks(bundle, photos / "a.png", tmp_path / "new.png", config)
    np.testing.assert_array_equal(
        read_image(tmp_path / "new.png"), colour_table(GROUPS7)[grow_region(ids, MOUTH, 1.5)]
    )


@pytest.mark.parametrize("as_colours", [False, True])
def test_label_pictures_of_another_schema_become_groups(bundle, photos, seen, tmp_path, as_colours):
    parts = np.zeros((SIZE, SIZE), np.uint8)
    parts[10:, 10:50] = CELEBAMASK19.index("skin")
    parts[20:24, 20:30] = CELEBAMASK19.index("l_eye")
    parts[40:44, 20:40] = CELEBAMASK19.index("u_lip")
    path = tmp_path / "parts.png"
    if as_colours:
        write_image(path, colour_table(CELEBAMASK19)[parts])
    else:
        write_ids(path, parts)
    config = MaskEditConfig(**SQUARE, labels=str(path), labels_schema="celebamask19")
    edit_masks(bundle, photos / "a.png", tmp_path / "a.png", config)
    ids = np.zeros((SIZE, SIZE), np.uint8)
    ids[10:, 10:50], ids[20:24, 20:30], ids[40:44, 20:40] = SKIN, EYES, MOUTH
    assert_same(read_image(tmp_path / "a.png"), painted(seen["a"], ids))


def test_what_changed_goes_back_into_the_photograph(bundle, photos, tmp_path):
    photo, out = read_image(photos / "a.png"), tmp_path / "a.png"
    result = edit_masks(
        bundle, photos / "a.png", out, MaskEditConfig(recolour={"mouth": "#00ff00"})
    )
    made = read_image(out)
    assert made.shape == photo.shape and result["kind"] == "edit"
    differs = np.abs(made.astype(int) - photo).max(axis=2) > 2
    assert 0.002 < differs.mean() < 0.05
    greenest = made[differs].astype(int)
    assert (greenest[:, 1] - greenest[:, 0]).max() > 150
    for paste, least, most in (("face", 0.05, 0.4), ("square", 0.4, 1.0)):
        config = MaskEditConfig(recolour={"mouth": "#00ff00"}, paste=paste, colour_match=False)
        edit_masks(bundle, photos / "a.png", out, config, overwrite=True)
        made = read_image(out).astype(int)
        assert least < (np.abs(made - photo).max(axis=2) > 2).mean() < most


def test_a_reconstruction_and_another_map_go_back_as_a_square(bundle, photos, tmp_path):
    photo, out = read_image(photos / "a.png"), tmp_path / "a.png"
    for references in ([], [photos / "b.png"]):
        edit_masks(bundle, photos / "a.png", out, references=references, overwrite=True)
        made = read_image(out)
        assert made.shape == photo.shape
        assert (np.abs(made.astype(int) - photo).max(axis=2) > 2).mean() > 0.4


def test_a_model_of_centred_squares(bundle, photos, tmp_path):
    other = export_puppet(tmp_path / "centred", align="none")
    edit_masks(other, photos / "a.png", tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (256, 256, 3)
    with pytest.raises(DataError, match="No face is found in .*wall.png, so it cannot be parsed"):
        edit_masks(other, photos / "wall.png", tmp_path / "b.png")


def test_a_grid_has_a_row_for_each_reference(bundle, photos, seen, tmp_path):
    config = MaskEditConfig(grid=True, grow={"mouth": 1.2})
    stages = []

    class Report:
        def __init__(self, label):
            stages.append(label)

        def __enter__(self):
            return lambda done, total, unit: stages.append((done, total, unit))

        def __exit__(self, *error):
            pass

    references = [photos / "b.png", photos / "c.png"]
    result = edit_masks(
        *(bundle, photos / "a.png", tmp_path / "grid.png", config),
        references=references,
        progress=Report,
    )
    assert result["columns"] == list(COLUMNS)
    assert [row["reference"] for row in result["rows"]] == [str(path) for path in references]
    assert stages[0] == "Edit masks" and stages[-1] == (3, 3, "picture")
    grid = read_image(tmp_path / "grid.png")
    assert grid.shape == (2 * (SIZE + 2) - 2, 5 * (SIZE + 2) - 2, 3)
    cells = [grid[:SIZE, x : x + SIZE] for x in range(0, grid.shape[1], SIZE + 2)]
    own, other = seen["a"], seen["b"]
    assert_same(cells[1], draw_colour_map(own["masks"], own["colours"]))
    assert_same(cells[2], painted(own))
    ids = grow_region(other["ids"], MOUTH, 1.2)
    if not result["rows"][0]["borrowed"]:
        assert_same(cells[3], draw_colour_map(split_groups(ids, 7), own["colours"]))
        assert_same(cells[4], painted(own, ids))
    np.testing.assert_array_equal(grid[:SIZE, :SIZE], grid[SIZE + 2 :, :SIZE])


def test_a_grid_without_an_edit_shows_the_reconstruction(bundle, photos, tmp_path):
    result = edit_masks(bundle, photos / "a.png", tmp_path / "grid.png", MaskEditConfig(grid=True))
    assert (result["columns"], result["rows"]) == (list(COLUMNS[:3]), [])
    assert read_image(tmp_path / "grid.png").shape == (SIZE, 3 * (SIZE + 2) - 2, 3)


def test_the_plan_tells_what_would_be_made(bundle, photos, tmp_path):
    config = MaskEditConfig(grow={"mouth": 1.2}, move={"nose": (0.0, 0.1)})
    plan = plan_mask_edit(
        bundle, photos / "a.png", tmp_path / "a.png", config, references=[photos / "b.png"]
    )
    assert (plan["kind"], plan["model"]) == ("edit", "puppet")
    assert plan["regions"] == list(GROUPS7.labels[1:])
    assert not (tmp_path / "a.png").exists()
    assert decode(MaskEditConfig, json.loads(json.dumps(encode(config)))) == config


def test_edits_are_read_from_texts():
    read = read_region_edits(
        move=["mouth=0.05,-0.02"], grow=["mouth=1.2", "hair = 0.9"], recolour=["hair=#804020"]
    )
    assert read == {
        "move": {"mouth": (0.05, -0.02)},
        "grow": {"mouth": 1.2, "hair": 0.9},
        "recolour": {"hair": "#804020"},
    }
    MaskEditConfig(**read)
    for texts, message in (
        ({"grow": ["mouth"]}, "grow takes a region and a value, as mouth=1.2; got 'mouth'"),
        ({"recolour": ["=#804020"]}, "recolour takes a region and a value"),
        ({"grow": ["mouth=2", "mouth=3"]}, "grow names 'mouth' twice"),
        ({"grow": ["mouth=big"]}, "grow mouth must be numbers, as 1.2; got"),
        ({"grow": ["mouth=1,2"]}, "grow mouth must be one factor, as 1.2; got '1,2'"),
        ({"move": ["mouth=right"]}, "move mouth must be numbers, as 0.05,-0.02; got"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_region_edits(**texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recolour": {"hair": "brown"}}, "recolour hair must be a colour as #804020, got 'brown'"),
        ({"recolour": {"hair": "#80402"}}, "recolour hair must be a colour"),
        ({"grow": {"mouth": 0.1}}, "grow mouth must be a factor from 0.2 to 5, got 0.1"),
        ({"grow": {"mouth": float("nan")}}, "grow mouth must be a factor"),
        ({"move": {"mouth": (0.1,)}}, "move mouth must be two shares of the side"),
        ({"move": {"mouth": (0.1, 1.0)}}, "move mouth must be two shares of the side"),
        ({"labels_schema": "celebamask19"}, "none is named; leave it out"),
        ({"labels": "a.png", "labels_schema": "celeba"}, "A label schema must be one of"),
        ({"grid": True, "write_map": True}, "leave write_map out, or the grid"),
        ({"write_map": True, "recolour": {"hair": "#804020"}}, "leave recolour out"),
        ({"paste": "face", "grid": True}, "none is written; leave it out"),
        ({"paste": "face", "full_frame": False}, "none is written; leave it out"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        MaskEditConfig(**changes)


def test_what_does_not_go_together_is_refused(bundle, photos, tmp_path):
    out, one = tmp_path / "out.png", [photos / "b.png"]
    labels = write_ids(tmp_path / "ids.png", np.zeros((SIZE, SIZE), np.uint8))
    for changes, references, output, message in (
        ({"grow": {"mout": 1.2}}, [], out, "A region of grow must be .*Did you mean 'mouth'"),
        ({"move": {"background": (0.1, 0)}}, [], out, "A region of move must be one of skin"),
        ({}, [photos / "b.png", photos / "c.png"], out, "of one reference, got 2; a grid takes"),
        ({"labels": labels}, one, out, "leave one of them out"),
        ({}, [photos / "a.png"], out, "is the target itself"),
        ({"paste": "change"}, [], out, "paste must be face or square"),
        ({}, [], tmp_path / "out.gif", "output of a picture must end in .png"),
        ({"grid": True}, [], tmp_path / "out.gif", "output of a grid must end in .png"),
        ({"write_map": True}, [], tmp_path / "out.jpg", "output of a map must end in .png"),
        ({"labels": labels}, [], labels, "is read itself"),
        ({}, one, photos / "b.png", "is read itself"),
        ({}, [], bundle / "out.png", "lies in the bundle"),
        ({}, [tmp_path / "none.png"], out, "The reference .*none.png is no file that exists"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            plan_mask_edit(
                bundle, photos / "a.png", output, MaskEditConfig(**changes), references=references
            )
    (tmp_path / "talk.mp4").write_bytes(b"no video")
    with pytest.raises(ConfigError, match="talk.mp4; tools/render_video.py paints one"):
        plan_mask_edit(bundle, tmp_path / "talk.mp4", out)
    out.touch()
    with pytest.raises(VideoError, match="out.png exists already"):
        plan_mask_edit(bundle, photos / "a.png", out)
    export_toy(tmp_path / "toy")
    assert paints_maps(bundle) and not paints_maps(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle paints no faces from maps; take one of"):
        plan_mask_edit(tmp_path / "toy", photos / "a.png", tmp_path / "b.png")
    config = MaskEditConfig(parser=ParserConfig(bundle=str(tmp_path / "none")))
    with pytest.raises(BundleError, match="none is no bundle"):
        plan_mask_edit(bundle, photos / "a.png", tmp_path / "b.png", config)


def test_pictures_that_cannot_be_edited_are_refused(bundle, photos, tmp_path):
    out = tmp_path / "out.png"
    with pytest.raises(DataError, match="No face is found in .*wall.png"):
        edit_masks(bundle, photos / "wall.png", out)
    accessories = MaskEditConfig(grow={"accessories": 1.2})
    message = r"There is no accessories to grow in the map of .*a\.png, only skin, eyes, "
    with pytest.raises(DataError, match=message):
        edit_masks(bundle, photos / "a.png", out, accessories)
    with pytest.raises(DataError, match=r"There is no accessories to grow in the map of .*b\.png"):
        edit_masks(bundle, photos / "a.png", out, accessories, references=[photos / "b.png"])
    assert not out.exists()


def test_label_pictures_that_cannot_be_read_are_refused(bundle, photos, tmp_path):
    path = tmp_path / "labels.png"
    config = MaskEditConfig(labels=str(path))

    def refused(changes=config):
        with pytest.raises(DataError) as caught:
            plan_mask_edit(bundle, photos / "a.png", tmp_path / "out.png", changes)
        return str(caught.value)

    assert "Cannot read" in refused()
    write_ids(path, np.zeros((50, 50), np.uint8))
    assert "labels.png is 50x50 px; a label picture shows" in refused()
    write_ids(path, np.zeros((SIZE, 2 * SIZE), np.uint8))
    assert "is 64x128 px" in refused()
    write_ids(path, np.full((SIZE, SIZE), 9, np.uint8))
    assert "labels.png has ids that the schema 'groups7' (0 to 7) does not have: 9" in refused()
    write_image(path, np.full((SIZE, SIZE, 3), (1, 2, 3), np.uint8))
    assert "labels.png: The colour (1, 2, 3) at row 0" in refused()
    from PIL import Image

    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).convert("P").save(path)
    assert "has a palette of its own; convert it to RGB" in refused()
    # What nobody has a colour for.
    write_ids(path, np.full((SIZE, SIZE), GROUPS7.index("accessories"), np.uint8))
    message = "labels.png has accessories, of which .*a.png shows no colour; name one, as recolour"
    with pytest.raises(DataError, match=message):
        edit_masks(bundle, photos / "a.png", tmp_path / "out.png", config)
    named = dataclasses.replace(config, recolour={"accessories": "#010203"}, **SQUARE)
    edit_masks(bundle, photos / "a.png", tmp_path / "out.png", named)
    np.testing.assert_array_equal(
        read_image(tmp_path / "out.png"), np.full((SIZE, SIZE, 3), (1, 2, 3), np.uint8)
    )
