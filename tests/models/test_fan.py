import gc

import numpy as np
import pytest

from facegan.convert.fan import save_fan
from facegan.errors import CheckpointError, ConfigError
from facegan.face.landmarks import MEAN_SHAPE
from facegan.models.fan import (
    FAN,
    FanConfig,
    detail_masks,
    landmark_heatmaps,
    load_fan,
)

# A face that fills three quarters of a picture of 256 px, as a portrait of FFHQ does.
FACE = MEAN_SHAPE * 150 + (53, 60)


def built(config=None, **kwargs):
    net = FAN(config, **kwargs)
    net.build({"image": (None, None, None, 3)})
    return net


def pictures(height=64, width=64):
    values = np.random.default_rng(0).uniform(-1, 1, (1, height, width, 3))
    return {"image": values.astype(np.float32)}


def test_parameters_are_the_authors():
    net = built()
    assert sum(np.prod(v.shape) for v in net.trainable_variables) == 6_333_603


@pytest.mark.parametrize(("height", "width"), [(256, 256), (128, 192)])
def test_maps_are_a_quarter_of_the_picture(height, width):
    net = built(FanConfig(num_landmarks=5, width=8), dtype="mixed_bfloat16")
    found = net(pictures(height, width))
    assert found["heatmaps"].shape == (1, height // 4, width // 4, 5)
    assert found["boundaries"].shape == (1, height // 4, width // 4, 1)
    assert {np.asarray(value).dtype.name for value in found.values()} == {"float32"}


def pass_through(net):
    """Lets features through a net: its blocks add nothing, and its norms and kernels are 1."""
    for variable in net.variables:
        _, layer, *rest = variable.path.split("/")
        value = np.zeros(variable.shape, np.float32)
        if rest[-1] in ("gamma", "moving_variance"):
            value += 1.0
        elif rest[-1] == "kernel" and (
            "skip_conv" in rest or layer in ("last_conv", "to_maps", "place_conv")
        ):
            np.fill_diagonal(value[0, 0], 1.0)
        variable.assign(value)


def halve(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))


def hourglass(x):
    """The sum of a map and of its means over 2x2, 4x4, 8x8 and 16x16 pixels."""
    means = [x]
    for _ in range(4):
        means.append(halve(means[-1]))
    return sum(np.kron(mean, np.ones((2**i, 2**i))) for i, mean in enumerate(means))


def coordinates(height, width):
    """x and y in [-1, 1] and the distance from the centre, 1 in the corners."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return x, y, np.hypot(x, y) / np.sqrt(2)


def test_coordinates_and_levels_by_hand():
    net = built(FanConfig(num_landmarks=15, width=16))
    pass_through(net)
    # Of the picture: its red channel, y + 1, x + 1 and the distance, at every other pixel.
    kernel = np.zeros(net.first_conv.kernel.shape, np.float32)
    for channel, source in enumerate((0, 3, 4, 5)):
        kernel[3, 3, source, channel] = 1.0
    net.first_conv.kernel.assign(kernel)
    net.first_conv.bias.assign([0.0, 1.0, 1.0, 0.0])
    # Of the maps: y + 1, x + 1 and the distance; the last one comes out as the boundaries.
    kernel, bias = np.asarray(net.place_conv.kernel).copy(), np.zeros(16, np.float32)
    kernel[0, 0, 16:] = 0.0
    for channel, source in ((10, 16), (11, 17), (15, 18)):
        kernel[0, 0, :, channel] = 0.0
        kernel[0, 0, source, channel] = 1.0
    bias[10:12] = 1.0
    net.place_conv.kernel.assign(kernel)
    net.place_conv.bias.assign(bias)
    inputs = pictures(64, 128)
    found = net(inputs)
    maps = np.concatenate([found["heatmaps"], found["boundaries"]], axis=-1)[0]
    x, y, distance = coordinates(64, 128)
    red = 0.5 * inputs["image"][0, :, :, 0] + 0.5
    for channel, seen in enumerate((red, y + 1, x + 1, distance)):
        expected = hourglass(halve(seen[::2, ::2]))
        np.testing.assert_allclose(maps[..., channel], expected, rtol=1e-4)
    x, y, distance = coordinates(16, 32)
    for channel, seen in ((10, y + 1), (11, x + 1), (15, distance)):
        np.testing.assert_allclose(maps[..., channel], hourglass(seen), rtol=1e-4)
    assert (maps[..., [4, 9, 12]] == 0).all()


def test_wrong_settings_and_pictures_are_refused():
    with pytest.raises(ConfigError, match="num_landmarks must be at least 1, got 0"):
        FanConfig(num_landmarks=0)
    with pytest.raises(ConfigError, match="multiples of 64, got 64x96"):
        built(FanConfig(width=8))(pictures(64, 96))


# The first blocks have half the width, and a quarter of that in the smallest convolution.
@pytest.mark.parametrize("width", [0, 4, 10, 12])
def test_a_width_that_cannot_be_divided_is_refused(width):
    with pytest.raises(ConfigError, match=f"width must be a multiple of .*, got {width}"):
        FanConfig(width=width)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A net with weights of its own, and the file that keeps them."""
    net, rng = built(name="first"), np.random.default_rng(3)
    for variable in net.variables:
        variable.assign(variable + rng.uniform(0, 0.01, variable.shape))
    path = tmp_path_factory.mktemp("fan") / "fan.npz"
    save_fan(net, path)
    return net, path


def test_weights_come_back_and_stay(stored):
    net, path = stored
    again = load_fan(path, name="again")
    assert again.name == "again" and again.config == FanConfig()
    for variable, expected in zip(again.variables, net.variables, strict=True):
        np.testing.assert_array_equal(variable, expected)
    assert not again.trainable_variables
    expected = net(pictures())
    # Training leaves the statistics of a net with fixed weights as they are, and does not use
    # those of the batch.
    for value, other in zip(
        again(pictures(), training=True).values(), expected.values(), strict=True
    ):
        np.testing.assert_allclose(value, other, atol=1e-6)
    for variable, expected in zip(again.variables, net.variables, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_weights_come_back_in_another_precision(stored):
    net, path = stored
    again = load_fan(path, dtype="mixed_bfloat16")
    assert again.compute_dtype == "bfloat16"
    assert {variable.dtype for variable in again.variables} == {"float32"}
    exact = np.asarray(net(pictures())["heatmaps"])
    assert np.abs(again(pictures())["heatmaps"] - exact).mean() < 0.05 * np.abs(exact).max()


def refuse(path):
    with pytest.raises(CheckpointError) as caught:
        load_fan(path)
    message = str(caught.value)
    assert message.startswith(f"Cannot read FAN weights from {path}: ")
    assert message.endswith("or none, to take the landmarks of the dataset.")
    return message


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    assert "No such file" in refuse(tmp_path / "none.npz")
    for name, data in (("empty", b""), ("text", b"weights")):
        (tmp_path / name).write_bytes(data)
        refuse(tmp_path / name)


def test_a_file_of_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    refuse(tmp_path / "one.npy")


def test_a_file_that_is_cut_is_refused_and_closed(stored, tmp_path):
    data = stored[1].read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    refuse(tmp_path / "cut.npz")
    gc.collect()  # a file that was left open is told here


def test_a_file_that_is_changed_inside_is_refused(stored, tmp_path):
    data = bytearray(stored[1].read_bytes())
    data[1000:1100] = bytes(100)
    (tmp_path / "changed.npz").write_bytes(data)
    refuse(tmp_path / "changed.npz")


def test_a_compressed_file_that_is_changed_is_refused(tmp_path):
    path = tmp_path / "fan.npz"
    kernel = np.random.default_rng(0).integers(0, 9, (7, 7, 6, 64))
    np.savez_compressed(path, **{"first_conv/kernel": kernel})
    data = bytearray(path.read_bytes())
    data[300:400] = b"\xff" * 100
    path.write_bytes(data)
    refuse(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", np.zeros((7, 7, 6, 64))),
        ("first_conv/kernel", np.zeros((7, 7, 6, 8))),
        ("first_conv/kernel", np.full((7, 7, 6, 64), "a")),
    ],
    ids=["names", "shapes", "kinds"],
)
def test_another_nets_weights_are_refused(name, value, tmp_path):
    np.savez(tmp_path / "other.npz", **{name: value})
    refuse(tmp_path / "other.npz")


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_landmark_is_a_gaussian_of_one_pixel(size):
    # Pixel x of the picture is (x + 0.5) * 64 / size - 0.5 of the map; here exactly (20, 11).
    factor = size / 64
    xy = np.array([[[20.5 * factor - 0.5, 11.5 * factor - 0.5]]])
    heatmap = np.asarray(landmark_heatmaps(xy, size))[0, :, :, 0]
    assert heatmap.shape == (64, 64) and heatmap.dtype == np.float32
    assert heatmap[11, 20] == 1.0
    for y, x in ((11, 19), (11, 21), (10, 20), (12, 20)):
        assert heatmap[y, x] == pytest.approx(np.exp(-0.5))
    assert heatmap[13, 23] == pytest.approx(np.exp(-0.5 * (3**2 + 2**2)))


def test_heatmaps_by_hand():
    rng = np.random.default_rng(1)
    xy = rng.uniform(-20, 276, (2, 7, 2))
    found = np.asarray(landmark_heatmaps(xy, 256))
    assert found.shape == (2, 64, 64, 7)
    y, x = np.indices((64, 64))
    for b, n in np.ndindex(2, 7):
        there = (xy[b, n] + 0.5) / 4 - 0.5
        expected = np.exp(-0.5 * ((x - there[0]) ** 2 + (y - there[1]) ** 2))
        np.testing.assert_allclose(found[b, :, :, n], expected, atol=1e-5)


def test_what_is_not_there_is_not_drawn():
    nan = np.nan
    xy = np.array([[[nan, nan], [101.5, nan], [nan, 101.5], [101.5, 101.5], [np.inf, 0]]])
    found = np.asarray(landmark_heatmaps(xy, 256))
    assert found.max(axis=(0, 1, 2)).tolist() == [0, 0, 0, 1, 0]
    masks = detail_masks(landmark_heatmaps(np.full((1, 68, 2), np.nan), 256), 128)
    assert all((np.asarray(mask) == 0).all() for mask in masks.values())


def values_at(mask, xy):
    """What a mask [S, S] holds at points of the face's picture of 256 px."""
    place = np.rint((xy + 0.5) * len(mask) / 256 - 0.5).astype(int)
    return mask[place[:, 1], place[:, 0]]


def masks_of(landmarks, size):
    masks = detail_masks(landmark_heatmaps(landmarks[None], 256), size)
    assert tuple(masks) == ("coarse_mask", "fine_mask")
    masks = {name: np.asarray(mask) for name, mask in masks.items()}
    for mask in masks.values():
        assert mask.shape == (1, size, size, 1) and mask.dtype == np.float32
        assert mask.min() >= 0 and mask.max() <= 1
    return masks["coarse_mask"][0, :, :, 0], masks["fine_mask"][0, :, :, 0]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_masks_cover_the_whole_face_and_nose_and_eyes(size):
    face, nose_eyes = masks_of(FACE, size)
    assert (nose_eyes <= face).all()
    assert values_at(nose_eyes, FACE[27:48]).min() > 0.7
    assert values_at(nose_eyes, FACE[:17]).max() < 0.02
    assert values_at(nose_eyes, FACE[55:60]).max() < 0.4
    assert values_at(face, FACE).min() > 0.7
    # Lines along the landmarks, and nothing on the cheeks and away from the face.
    line = (FACE[:16] + FACE[1:17]) / 2
    assert values_at(face, line).min() > 0.5
    cheeks = np.array([FACE[[3, 31]].mean(axis=0), FACE[[13, 35]].mean(axis=0)])
    assert values_at(face, cheeks).max() < 0.3
    assert max(face[0].max(), face[:, 0].max(), face[-1].max(), face[:, -1].max()) < 0.02
    # Soft at every size: no pixel is far from its neighbours.
    step = max(np.abs(np.diff(face, axis=axis)).max() for axis in (0, 1))
    assert step < {32: 0.8, 64: 0.5, 128: 0.3, 256: 0.15}[size]


def test_masks_stay_in_place_at_every_size():
    large = masks_of(FACE, 256)
    for size in (32, 64, 128):
        factor = 256 // size
        for mask, other in zip(masks_of(FACE, size), large, strict=True):
            means = other.reshape(size, factor, size, factor).mean(axis=(1, 3))
            assert np.abs(mask - means).max() < 0.15
            assert np.abs(mask - means).mean() < 0.01


def test_masks_of_98_landmarks():
    # WFLW: 33 of the jaw, then brows and nose, from 60 on eyes and from 76 on mouth.
    landmarks = np.full((98, 2), np.nan)
    landmarks[:17], landmarks[60:72], landmarks[76:96] = FACE[:17], FACE[36:48], FACE[48:]
    expected = masks_of(np.concatenate([FACE[:17], np.full((19, 2), np.nan), FACE[36:]]), 128)
    for mask, other in zip(masks_of(landmarks, 128), expected, strict=True):
        np.testing.assert_array_equal(mask, other)


def test_what_a_network_finds_is_cut_to_the_range():
    heatmaps = np.random.default_rng(2).normal(0, 3, (2, 64, 64, 98)).astype(np.float32)
    for mask in detail_masks(heatmaps, 64).values():
        assert np.asarray(mask).min() >= 0 and np.asarray(mask).max() <= 1
