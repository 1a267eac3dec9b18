"""Pictures and label maps as files, read and written inside of a graph."""

import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from facegan import image as image_lib
from facegan.bundle import TensorSpec
from facegan.export import encoded

SIZE = 24
PICTURE = TensorSpec(name="image", shape=(None, SIZE, SIZE, 3))
IDS = TensorSpec(name="ids", shape=(None, SIZE, SIZE), dtype="int32", value_range=(0, 18))


def noise(*shape, high=256, seed=0):
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def in_graph(function, spec, files):
    graph = tf.function(lambda data: function(data, spec))
    return graph(tf.constant(files)).numpy()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [SIZE, None])
def test_a_png_of_the_right_size_comes_out_as_it_was(channels, size):
    pictures = noise(2, SIZE, SIZE, channels)
    files = [
        cv2.imencode(".png", picture[..., [2, 1, 0, 3][:channels]])[1].tobytes()
        if channels > 1
        else cv2.imencode(".png", picture)[1].tobytes()
        for picture in pictures
    ]
    spec = TensorSpec(name="image", shape=(None, size, size, channels))
    decoded = in_graph(encoded.decode_pictures, spec, files)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pictures)


def test_a_jpeg_is_read():
    picture = np.zeros((SIZE, SIZE, 3), np.uint8) + np.array([200, 60, 20], np.uint8)
    decoded = in_graph(encoded.decode_pictures, PICTURE, [image_lib.encode_jpeg(picture)])
    assert np.abs(decoded[0].astype(int) - picture).max() <= 4


def test_pictures_of_other_sizes_are_resized_without_aliasing():
    # Stripes of one pixel: what is not smoothed first comes out black or white.
    stripes = np.zeros((4 * SIZE, 4 * SIZE, 3), np.uint8)
    stripes[:, ::2] = 255
    flat = np.full((10, 17, 3), 77, np.uint8)
    files = [image_lib.encode_picture(picture) for picture in (stripes, flat)]
    decoded = in_graph(encoded.decode_pictures, PICTURE, files)
    assert decoded.shape == (2, SIZE, SIZE, 3)
    assert 110 < decoded[0].min() and decoded[0].max() < 145
    assert np.all(decoded[1] == 77)


def test_ids_of_another_size_stay_ids():
    label_map = np.kron(noise(SIZE, SIZE, high=19), np.ones((3, 3), np.uint8))
    files = [image_lib.encode_labels(label_map)]
    decoded = in_graph(encoded.decode_label_maps, IDS, files)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded[0], label_map[::3, ::3])
    exact = image_lib.encode_labels(label_map[:SIZE, :SIZE])
    np.testing.assert_array_equal(
        in_graph(encoded.decode_label_maps, IDS, [exact])[0], label_map[:SIZE, :SIZE]
    )


def _animation():
    frames = [Image.fromarray(noise(SIZE, SIZE, 3, seed=seed)) for seed in (0, 1)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def _palette():
    file = io.BytesIO()
    Image.fromarray(noise(SIZE, SIZE, high=19)).convert("P").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "function, spec, file, message",
    [
        (encoded.decode_pictures, PICTURE, b"", "Input is empty"),
        (encoded.decode_pictures, PICTURE, b"no picture", "Unknown image file format"),
        (encoded.decode_pictures, PICTURE, _animation(), "image_bytes must hold .* an animation"),
        (encoded.decode_label_maps, IDS, b"", "PNG files of one channel"),
        (encoded.decode_label_maps, IDS, _palette(), "PNG files of one channel"),
        (
            encoded.decode_label_maps,
            IDS,
            image_lib.encode_picture(np.zeros((SIZE, SIZE, 3), np.uint8)),
            "ids_bytes must hold PNG files of one channel",
        ),
        (
            encoded.decode_label_maps,
            IDS,
            image_lib.encode_labels(np.full((SIZE, SIZE), 19, np.uint8)),
            "an id above 18",
        ),
    ],
    ids=["empty", "junk", "animation", "no map", "palette", "colours", "unknown id"],
)
def test_what_is_refused(function, spec, file, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_graph(function, spec, [file])


def test_encoding():
    pictures, maps = noise(2, SIZE, 40, 3), noise(2, SIZE, 40, high=19)
    files = encoded.encode_png(tf.constant(pictures)).numpy()
    np.testing.assert_array_equal([image_lib.decode_picture(f) for f in files], pictures)
    files = encoded.encode_label_maps(tf.constant(maps.astype(np.int32))).numpy()
    read = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_UNCHANGED) for f in files]
    np.testing.assert_array_equal(read, maps)
    smooth = np.broadcast_to(np.linspace(0, 250, 40, dtype=np.uint8)[:, None], (2, SIZE, 40, 3))
    files = encoded.encode_jpeg(tf.constant(smooth)).numpy()
    assert all(file.startswith(b"\xff\xd8") for file in files)
    read = np.stack([image_lib.decode_picture(f) for f in files])
    assert np.abs(read.astype(int) - smooth).max() <= 8
