import itertools

import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.training import ada
from facegan.training.ada import (
    AdaConfig,
    adjusted_probability,
    augment_pictures,
    mean_sign_so_far,
)
from facegan.training.r1 import r1_penalty

SEED = np.array([3, 5], np.int32)
NEUTRAL_ONES = ("scale", "stretch", "contrast", "saturation")
BLIT = ("flip", "quarter_turns", "shift_x", "shift_y")
GEOMETRY = ("scale", "angle_before", "stretch", "angle_behind", "offset_x", "offset_y")
COLOUR = ("brightness", "contrast", "invert_luma", "hue", "saturation")


def pictures(batch, height, width, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


def draw(config, batch, probability, seed=SEED):
    factors = ada._draw_factors(config, batch, tf.constant(probability), seed)
    return {name: np.asarray(values, np.float64) for name, values in factors.items()}


def factors_of(**changed):
    """One example's factors as [1] tensors, neutral but for those given."""
    names = (*BLIT, *GEOMETRY, *COLOUR)
    values = {name: float(name in NEUTRAL_ONES) for name in names} | changed
    return {name: tf.constant([value], tf.float32) for name, value in values.items()}


def scaled(x, y):
    return np.diag([x, y, 1.0])


def moved(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def rotated(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 1.0}, r"ada.target is a mean sign in \(-1, 1\), got 1.0"),
        ({"interval": 0}, "ada.interval must be at least 1, got 0"),
        ({"rise_steps": 0}, "ada.rise_steps must be at least 1, got 0"),
        ({"limit": 1.5}, r"ada.limit is a probability in \[0, 1\], got 1.5"),
        ({"start": 0.5, "limit": 0.4}, r"ada.start must be in .*\[0, 0.4\], got 0.5"),
        ({"start": -0.1}, "ada.start must be in .* got -0.1"),
        ({"blit": False, "geometry": False, "colour": False}, "nothing is varied"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        AdaConfig(**settings)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 8), r"must be \[B, H, W, 3\].*\(2, 8, 8\)"),
        ((2, 8, 8, 1), r"must be \[B, H, W, 3\].*\(2, 8, 8, 1\)"),
        ((2, 1, 1, 3), "at least 2 pixels"),
        ((2, 8, 6, 3), "must be square, because ada.blit"),
    ],
)
def test_pictures_of_another_shape_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        augment_pictures(AdaConfig(), tf.zeros(shape), 0.5, SEED)


def test_the_probability_follows_the_signs_as_a_loop_does():
    config = AdaConfig(target=0.2, interval=3, rise_steps=10, start=0.5, limit=0.8)
    # Mostly sure for 11 steps, so the probability meets the limit; then unsure, down to 0.
    signs = [0.9, -0.5, 1.0, 0.6, 0.5, 0.4, 1, 1, 1, 0.1, 1.0] + [-0.4] * 17

    expected, probability, since = [], 0.5, []
    for step, sign in enumerate(signs):
        if step in (3, 6, 9, 12, 15, 18, 21, 24, 27):
            probability += 0.3 if sum(since) / len(since) > 0.2 else -0.3
            probability = min(max(probability, 0.0), 0.8)
            since = []
        since.append(sign)
        expected.append((probability, sum(since) / len(since)))
    assert {0.0, 0.8} < {round(p, 6) for p, _ in expected}

    found, probability, mean = [], tf.constant(config.start), tf.constant(7.0)
    compiled = tf.function(
        lambda p, m, sign, step: (
            adjusted_probability(config, p, m, step),
            mean_sign_so_far(config, m, sign, step),
        )
    )
    for step, sign in enumerate(signs):
        probability, mean = compiled(probability, mean, tf.constant(sign), tf.constant(step))
        found.append((float(probability), float(mean)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_probability_rests_where_the_target_is_met():
    config = AdaConfig(target=0.5, interval=4)
    assert float(adjusted_probability(config, 0.25, 0.5, 4)) == 0.25
    assert float(adjusted_probability(config, 0.25, 1.0, 0)) == 0.25  # no mean yet
    assert float(adjusted_probability(config, 0.25, 1.0, 4)) == pytest.approx(0.25 + 4 / 15625)


@pytest.mark.parametrize("size_hw", [(8, 8), (2, 2), (17, 6)])
def test_at_probability_0_pictures_stay_as_they_are(size_hw):
    images = pictures(3, *size_hw)
    config = AdaConfig(blit=size_hw[0] == size_hw[1])
    found = augment_pictures(config, tf.constant(images), 0.0, SEED)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, images, atol=2e-6)


def test_whole_shifts_are_exact_and_bring_in_the_mirrored_picture():
    images = pictures(1, 16, 24)
    around = np.pad(images, ((0, 0), (2, 2), (3, 3), (0, 0)), mode="reflect")
    for down, right in [(0, 0), (2, 0), (-2, 3), (1, -3)]:
        matrix = tf.constant([[[1.0, 0, -right], [0, 1, -down]]])
        expected = around[:, 2 - down : 18 - down, 3 - right : 27 - right]
        np.testing.assert_allclose(ada._warp(images, matrix), expected, atol=2e-6)


def test_blitting_copies_pixels():
    image = pictures(1, 8, 8)[0]
    # On 8 pixels an eighth of the side is one: 8 symmetries, each shifted to 9 places.
    candidates = []
    for flip, turns in itertools.product((False, True), range(4)):
        turned = np.rot90(image[:, ::-1] if flip else image, turns)
        around = np.pad(turned, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        for i, j in itertools.product(range(3), range(3)):
            candidates.append(around[i : i + 8, j : j + 8])
    config = AdaConfig(geometry=False, colour=False)
    found = augment_pictures(config, np.repeat(image[None], 600, axis=0), 1.0, SEED).numpy()
    away = np.stack([np.abs(found - one).max(axis=(1, 2, 3)) for one in candidates])
    assert away.min(axis=0).max() < 3e-6
    nearest = away.argmin(axis=0)
    assert set(nearest) == set(range(72))
    # Flipped or not, and each number of quarter turns, are equally likely.
    symmetries = np.bincount(nearest // 9, minlength=8) / 600
    assert np.abs(symmetries - 1 / 8).max() < 4 * np.sqrt(7 / 64 / 600)


@pytest.mark.parametrize("turns", range(4))
def test_flips_and_turns_are_numpys(turns):
    image = pictures(1, 6, 6)
    found = ada._flip_and_turn(tf.constant(image), tf.constant([1.0]), tf.constant([float(turns)]))
    np.testing.assert_array_equal(found[0], np.rot90(image[0, :, ::-1], turns))


def test_each_transform_happens_as_often_as_asked():
    count, p = 20_000, 0.3
    factors = draw(AdaConfig(), count, p)
    happens = {
        name: values != (1.0 if name in NEUTRAL_ONES else 0.0) for name, values in factors.items()
    }
    expected = dict.fromkeys((*GEOMETRY, *COLOUR, *BLIT), p)
    # Half of the flips and inversions, and a quarter of the turns, are none.
    expected |= {"flip": p / 2, "invert_luma": p / 2, "quarter_turns": 0.75 * p}
    expected |= dict.fromkeys(("angle_before", "angle_behind"), 1 - np.sqrt(1 - p))
    assert set(expected) == set(happens)
    tolerance = 4 * np.sqrt(p * (1 - p) / count)
    for name, share in expected.items():
        assert happens[name].mean() == pytest.approx(share, abs=tolerance), name
    either = happens["angle_before"] | happens["angle_behind"]
    assert either.mean() == pytest.approx(p, abs=tolerance)
    # x and y are shifted together; all else is independent of one another.
    np.testing.assert_array_equal(happens["offset_x"], happens["offset_y"])
    names = [name for name in happens if name not in ("shift_y", "offset_y")]
    for one, other in itertools.combinations(names, 2):
        both = (happens[one] & happens[other]).mean()
        assert both == pytest.approx(expected[one] * expected[other], abs=tolerance), (one, other)


def test_that_share_of_the_pictures_is_changed():
    images = pictures(4000, 2, 2)
    config = AdaConfig(blit=False, geometry=False)
    found = augment_pictures(config, images, 0.2, SEED).numpy()
    unchanged = (np.abs(found - images).max(axis=(1, 2, 3)) < 1e-5).mean()
    expected = 0.8**4 * 0.9
    assert unchanged == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4000))


def test_the_factors_are_distributed_as_in_the_paper():
    count = 20_000
    factors = draw(AdaConfig(), count, 1.0)
    normal = {
        "scale": (np.log2, 0.2),
        "stretch": (np.log2, 0.2),
        "offset_x": (np.asarray, 0.125),
        "offset_y": (np.asarray, 0.125),
        "brightness": (np.asarray, 0.2),
        "contrast": (np.log2, 0.5),
        "saturation": (np.log2, 1.0),
    }
    for name, (straighten, std) in normal.items():
        values = straighten(factors[name])
        assert values.mean() == pytest.approx(0, abs=4 * std / np.sqrt(count)), name
        assert values.std() == pytest.approx(std, rel=0.03), name
        within = (np.abs(values) < std).mean()  # 0.683 of a normal distribution
        assert within == pytest.approx(0.6827, abs=0.015), name
    reach = dict.fromkeys(("angle_before", "angle_behind", "hue"), np.pi)
    reach |= dict.fromkeys(("shift_x", "shift_y"), 0.125)
    for name, most in reach.items():
        counts, _ = np.histogram(factors[name], bins=10, range=(-most, most))
        assert counts.sum() == count, name
        assert np.abs(counts / count - 0.1).max() < 0.01, name
    for name, number in {"flip": 2, "invert_luma": 2, "quarter_turns": 4}.items():
        counts = np.bincount(factors[name].astype(int), minlength=number)
        assert np.abs(counts / count - 1 / number).max() < 0.015, name
    values = np.stack([factors[name] for name in factors])
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 0.04


def test_groups_that_are_off_leave_the_others_as_they_are():
    whole = draw(AdaConfig(), 50, 0.6)
    for group, names in {"blit": BLIT, "geometry": GEOMETRY, "colour": COLOUR}.items():
        without = draw(AdaConfig(**{group: False}), 50, 0.6)
        for name, values in without.items():
            neutral = np.full(50, float(name in NEUTRAL_ONES))
            expected = neutral if name in names else whole[name]
            np.testing.assert_array_equal(values, expected, err_msg=name)


def test_the_geometry_is_the_inverse_of_its_steps_in_order():
    height, width = 40, 24
    factors = draw(AdaConfig(), 30, 1.0)
    tensors = {name: tf.constant(values, tf.float32) for name, values in factors.items()}
    found = ada._inverse_geometry(tensors, height, width)
    for i in range(30):
        f = {name: values[i] for name, values in factors.items()}
        whole = (
            moved(f["offset_x"] * width, f["offset_y"] * height)
            @ rotated(f["angle_behind"])
            @ scaled(f["stretch"], 1 / f["stretch"])
            @ rotated(f["angle_before"])
            @ scaled(f["scale"], f["scale"])
            @ moved(np.round(f["shift_x"] * width), np.round(f["shift_y"] * height))
        )
        np.testing.assert_allclose(found[i], np.linalg.inv(whole)[:2], atol=2e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"angle_before": 0.5},
        {"scale": 0.5, "angle_behind": -2.0},
        {"scale": 1.5, "stretch": 1.3, "angle_before": 1.0},
        {"offset_x": 0.4, "offset_y": -3.3, "shift_x": 0.125},
    ],
)
def test_a_smooth_picture_and_its_mirrored_surroundings_come_from_the_right_places(changed):
    height, width = 24, 32

    def wave(x, y):  # is its own mirrored picture on all sides, however far
        over, down = np.pi * x / (width - 1), np.pi * y / (height - 1)
        return np.stack([np.cos(2 * over), np.cos(down), np.cos(over) * np.cos(2 * down)], -1)

    x, y = np.meshgrid(np.arange(width), np.arange(height))
    matrix = ada._inverse_geometry(factors_of(**changed), height, width)
    found = ada._warp(wave(x, y)[None].astype(np.float32), matrix)[0]
    (xx, xy, right), (yx, yy, down) = np.asarray(matrix[0])
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    expected = wave(
        xx * x + xy * y + right + (width - 1) / 2, yx * x + yy * y + down + (height - 1) / 2
    )
    # The filter's centre of mass is a tenth of a half pixel off in both pictures, and a wave rises
    # by up to 0.2 a pixel, in a picture of half the size by 0.4.
    np.testing.assert_allclose(found, expected, atol=0.04)


@pytest.mark.parametrize("size", [2, 3, 8, 65])
def test_what_the_filter_doubles_it_halves_to_the_same(size):
    margin = ada._margin(size)
    doubled = ada._doubling(size, margin)
    assert len(doubled) == 2 * size - 1 + 2 * margin
    seen = doubled[margin - 5 : margin + 2 * size + 5]
    np.testing.assert_allclose(ada._halving(size) @ seen, np.eye(size), atol=1e-6)


def test_colours_are_the_product_of_their_steps_in_order():
    factors = draw(AdaConfig(), 30, 1.0)
    tensors = {name: tf.constant(values, tf.float32) for name, values in factors.items()}
    found = ada._colour_matrix(tensors)
    axis = np.array([1, 1, 1, 0]) / np.sqrt(3)
    luma = np.outer(axis, axis)
    x, y, z = axis[:3]
    cross = np.zeros((4, 4))
    cross[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    for i in range(30):
        f = {name: values[i] for name, values in factors.items()}
        brighter = np.eye(4)
        brighter[:3, 3] = f["brightness"]
        contrast = np.diag([f["contrast"]] * 3 + [1])
        inverted = np.eye(4) - 2 * f["invert_luma"] * luma
        # Rodrigues' formula.
        hue = np.eye(4) + np.sin(f["hue"]) * cross + (1 - np.cos(f["hue"])) * cross @ cross
        plane = np.diag([1.0, 1, 1, 0]) - luma
        saturation = luma + f["saturation"] * plane + np.diag([0, 0, 0, 1.0])
        whole = saturation @ hue @ inverted @ contrast @ brighter
        np.testing.assert_allclose(found[i], whole[:3], atol=1e-5)


def recolour(image, **changed):
    return ada._recolour(image, ada._colour_matrix(factors_of(**changed))).numpy()


def test_colours_by_hand():
    image = pictures(1, 3, 4)
    luma = image.mean(axis=3, keepdims=True)
    close = {"atol": 1e-6}
    np.testing.assert_allclose(recolour(image), image, **close)
    np.testing.assert_allclose(recolour(image, invert_luma=1), image - 2 * luma, **close)
    np.testing.assert_allclose(
        recolour(image, saturation=0), np.broadcast_to(luma, image.shape), **close
    )
    np.testing.assert_allclose(recolour(image, saturation=2), luma + 2 * (image - luma), **close)
    np.testing.assert_allclose(recolour(image, hue=1.0).mean(3), luma[..., 0], **close)
    # A third of a turn makes red green, green blue and blue red.
    third = recolour(image, hue=2 * np.pi / 3)
    np.testing.assert_allclose(third, np.roll(image, 1, axis=3), **close)
    np.testing.assert_allclose(
        recolour(image, brightness=0.1, contrast=2), 2 * (image + 0.1), **close
    )


@pytest.mark.parametrize("seed", [[3, 5], [-7, 1]])
def test_the_gradient_is_the_adjoint(seed):
    images, others = pictures(6, 12, 12), pictures(6, 12, 12, seed=1)
    seed = tf.constant(seed)

    def augment(x):
        return augment_pictures(AdaConfig(), x, tf.constant(0.9), seed)

    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(augment(x) * others)
    gradient = tape.gradient(total, x).numpy()
    linear = (augment(x) - augment(tf.zeros_like(x))).numpy()  # f(x) = A x + f(0)
    for example in range(6):
        there = (linear[example].astype(np.float64) * others[example]).sum()
        back = (images[example].astype(np.float64) * gradient[example]).sum()
        size = float(np.linalg.norm(linear[example]) * np.linalg.norm(others[example]))
        assert there == pytest.approx(back, abs=2e-6 * size)
        assert np.linalg.norm(gradient[example]) > 0.1


def test_r1_has_a_gradient_through_the_transforms():
    images = pictures(4, 10, 10)
    weights = tf.Variable(pictures(1, 10, 10, seed=1)[0])

    def augment(x):
        return augment_pictures(AdaConfig(), x, tf.constant(0.8), SEED)

    def judge(x):  # D(x) = sum of weights f(x)^2
        return tf.reduce_sum(weights * augment(x) ** 2, axis=(1, 2, 3))

    with tf.GradientTape() as tape:
        _, penalty = r1_penalty(judge, tf.constant(images))
    slope = tape.gradient(penalty, weights)

    # By hand, with f(x) = A x + f(0): g = 2 A^T (weights f(x)), R1 = 1/2 E |g|^2, and the
    # derivative by the weights is 2 E f(x) (A g).
    varied = augment(images).numpy()
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(augment(x) * (2 * weights.numpy() * varied))
    steep = tape.gradient(total, x).numpy()
    assert float(penalty) == pytest.approx(0.5 * (steep**2).sum() / 4, rel=1e-4)
    through = (augment(steep) - augment(np.zeros_like(steep))).numpy()
    expected = 2 * (varied * through).mean(axis=0)
    np.testing.assert_allclose(slope, expected, atol=2e-5 * np.abs(expected).max())


def test_draws_follow_from_the_seed():
    images = np.repeat(pictures(1, 8, 8), 4, axis=0)
    config = AdaConfig()
    first = augment_pictures(config, images, 0.9, SEED).numpy()
    again = augment_pictures(config, images, 0.9, SEED).numpy()
    other = augment_pictures(config, images, 0.9, tf.constant([3, 6])).numpy()
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max(axis=(1, 2, 3)).min() > 0.05
    # Each example is varied in its own way.
    for one, two in itertools.combinations(first, 2):
        assert np.abs(one - two).max() > 0.05


def test_compiled_by_xla_the_transforms_and_their_gradient_are_the_same():
    # XLA draws other numbers from a seed, so the factors are drawn before.
    factors = ada._draw_factors(AdaConfig(), 5, tf.constant(0.8), SEED)

    def transform(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            varied = ada._transform(AdaConfig(), images, factors)
            total = tf.reduce_sum(varied**2)
        return varied, tape.gradient(total, images)

    images = tf.constant(pictures(5, 16, 16))
    compiled = tf.function(transform, jit_compile=True)(images)
    for found, expected in zip(compiled, transform(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("xla", "batches"), [(False, (2, 5)), (True, (3,))])
def test_graphs_take_batches_of_any_size(xla, batches):
    signature = [
        tf.TensorSpec((None, 8, 8, 3)),
        tf.TensorSpec(()),
        tf.TensorSpec((2,), tf.int32),
    ]

    @tf.function(input_signature=signature, jit_compile=xla)
    def augment(images, probability, seed):
        return augment_pictures(AdaConfig(), images, probability, seed)

    for batch in batches:
        images = pictures(batch, 8, 8)
        np.testing.assert_allclose(augment(images, 0.0, SEED), images, atol=2e-6)
        first, again = augment(images, 1.0, SEED), augment(images, 1.0, SEED)
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - augment(images, 1.0, SEED + 1)).max() > 0.05


def test_reduced_precision_comes_in_and_float32_goes_out():
    images = tf.cast(pictures(2, 8, 8), tf.float16)
    found = augment_pictures(AdaConfig(), images, 0.0, SEED)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, tf.cast(images, tf.float32), atol=2e-6)
