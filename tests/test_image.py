import numpy as np
import pytest
import tensorflow as tf

from facegan import image as image_lib
from facegan.errors import ConfigError, DataError

CODES = np.arange(256, dtype=np.uint8)


def test_every_code_survives_the_round_trip():
    floats = image_lib.to_float(CODES)
    assert floats.dtype == np.float32
    assert floats[0] == -1.0
    assert floats[255] == 1.0
    np.testing.assert_array_equal(image_lib.to_uint8(floats), CODES)


def test_the_graph_forms_equal_the_numpy_forms():
    floats = image_lib.to_float_tensor(tf.constant(CODES)).numpy()
    np.testing.assert_allclose(floats, image_lib.to_float(CODES), atol=1e-7)
    np.testing.assert_array_equal(image_lib.to_uint8_tensor(tf.constant(floats)).numpy(), CODES)
    values = np.random.default_rng(0).uniform(-1.2, 1.2, 4000).astype(np.float32)
    np.testing.assert_array_equal(
        image_lib.to_uint8_tensor(tf.constant(values)).numpy(), image_lib.to_uint8(values)
    )


def test_values_outside_the_range_are_clipped():
    np.testing.assert_array_equal(image_lib.to_uint8(np.array([-9.0, 9.0])), [0, 255])


def test_to_float_takes_codes_only():
    with pytest.raises(ConfigError, match="uint8 images, got float64"):
        image_lib.to_float(np.zeros(3))


def test_resize_keeps_channels_and_mean():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    small = image_lib.resize(image, 16, 24)
    assert small.shape == (16, 24, 3)
    assert abs(small.mean() - image.mean()) < 1.0
    assert image_lib.resize(image[..., :1], 128, 192).shape == (128, 192, 1)
    assert image_lib.resize(image, 64, 96) is image


def test_pad_to_centres():
    out = image_lib.pad_to(np.full((2, 3, 1), 7, np.uint8), 4, 5)
    assert out.shape == (4, 5, 1)
    np.testing.assert_array_equal(out[1:3, 1:4], 7)
    assert out.sum() == 2 * 3 * 7
    with pytest.raises(ConfigError, match="smaller 1x5"):
        image_lib.pad_to(out, 1, 5)


def test_make_grid_places_images_in_order():
    a, b, c = (np.full((4, 6, 3), v, np.uint8) for v in (10, 20, 30))
    grid = image_lib.make_grid([[a, b], [c]], gap_px=2)
    assert grid.shape == (10, 14, 3)
    assert grid[0, 0, 0] == 10
    assert grid[0, 8, 0] == 20
    assert grid[6, 0, 0] == 30
    assert grid[6, 8, 0] == 255
    with pytest.raises(ConfigError, match="at least one"):
        image_lib.make_grid([])


def test_picture_files(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image_lib.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(image_lib.read_image(tmp_path / "a.png"), image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    (tmp_path / "junk.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="junk.png"):
        image_lib.read_image(tmp_path / "junk.png")
    with pytest.raises(DataError, match="Cannot write"):
        image_lib.write_image(tmp_path / "no" / "a.png", image)


def test_read_image_turns_by_exif(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show upright
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, :4] = 255
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    upright = image_lib.read_image(tmp_path / "a.png")
    assert upright.shape == (8, 4, 3)
    assert upright[:4].min() == 255


def test_read_image_refuses_a_picture_bomb(tmp_path):
    from PIL import Image

    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="9000x9000"):
        image_lib.read_image(tmp_path / "bomb.png")


def test_pictures_survive_encoding_without_loss():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    decoded = image_lib.decode_picture(image_lib.encode_picture(image))
    np.testing.assert_array_equal(decoded, image)


def test_broken_picture_bytes_are_refused():
    with pytest.raises(DataError, match="4 bytes"):
        image_lib.decode_picture(b"junk")


def test_label_maps_survive_encoding():
    label_map = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    decoded = image_lib.decode_labels(image_lib.encode_labels(label_map))
    np.testing.assert_array_equal(decoded, label_map)
    picture = image_lib.encode_picture(np.zeros((2, 2, 3), np.uint8))
    for wrong in (b"", b"junk", picture):
        with pytest.raises(DataError, match="no label map"):
            image_lib.decode_labels(wrong)
