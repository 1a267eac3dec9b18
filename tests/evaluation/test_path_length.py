import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.evaluation.lpips import make_distance
from facegan.evaluation.path_length import perceptual_path_length
from facegan.image import to_float, to_uint8

L, W = 2, 3


def draw_from(ws):
    """Gives these styles [N, L, W] one after the other."""
    left = list(ws)
    return lambda count: np.stack([left.pop(0) for _ in range(count)])


def draw_random(seed=0):
    random = np.random.default_rng(seed)
    return lambda count: random.normal(size=(count, L, W)).astype(np.float32)


def flat(colours, size=4):
    return np.broadcast_to(colours[:, None, None], (len(colours), size, size, 3))


def paint_linear(w):
    """A flat picture: the first layer's style and half the second's."""
    return flat(w[:, 0] + 0.5 * w[:, 1]).astype(np.float64)


def squared(images, others):
    return np.square(images - others).sum(axis=3).mean(axis=(1, 2))


def length_by_hand(w, other):
    step = other.astype(float) - w
    return np.square(step[0] + 0.5 * step[1]).sum()


@pytest.mark.parametrize("sampling", ["end", "full"])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
def test_a_linear_painter_has_the_length_of_its_step(sampling, epsilon):
    w, other = draw_random()(2)
    found = perceptual_path_length(
        paint_linear, squared, draw_from([w, other]), 1, sampling=sampling, epsilon=epsilon
    )
    # Styles are float32: in 1e-4 of a step, four digits are left.
    assert found == pytest.approx(length_by_hand(w, other), rel=2e-3)
    assert type(found) is float


def test_pairs_of_several_batches_are_drawn_in_order():
    ws = draw_random()(24)
    # A batch of 8, then one of 4; each draws the starts of its ways, and then their ends.
    starts, ends = [*range(8), *range(16, 20)], [*range(8, 16), *range(20, 24)]
    lengths = [length_by_hand(ws[a], ws[b]) for a, b in zip(starts, ends, strict=True)]
    seen = []
    found = perceptual_path_length(
        paint_linear,
        squared,
        draw_from(ws),
        12,
        epsilon=1e-2,
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    # With few samples, both percentiles are samples themselves, and nothing is left out.
    assert found == pytest.approx(np.mean(lengths), rel=1e-4)
    assert seen == [(0, 12, "pair"), (8, 12, "pair"), (12, 12, "pair")]


def test_the_outer_hundredths_are_left_out():
    # The ways' lengths are 0, 1, ..., 400: the first four and the last four go.
    order = np.random.default_rng(0).permutation(401)
    lengths = iter(order * 1e-8)

    def distance(images, others):
        return np.array([next(lengths) for _ in images])

    found = perceptual_path_length(paint_linear, distance, draw_random(), 401)
    assert found == pytest.approx(np.arange(4, 397).mean())

    order[order == 400] = 10**6
    lengths = iter(order * 1e-8)
    assert perceptual_path_length(paint_linear, distance, draw_random(), 401) == found


def test_the_end_is_the_way_that_is_drawn_and_full_is_all_of_it():
    # A painter that stands still but in the first half of the way from 0 to 1.
    ends = draw_from(np.stack([np.full((L, W), n % 16 // 8, np.float32) for n in range(16 * 100)]))

    def paint(w):
        return flat(np.minimum(w[:, 0].astype(np.float64), 0.5))

    assert perceptual_path_length(paint, squared, ends, 800) == pytest.approx(3.0, rel=1e-3)
    ends = draw_from(np.stack([np.full((L, W), n % 16 // 8, np.float32) for n in range(16 * 100)]))
    full = perceptual_path_length(paint, squared, ends, 800, sampling="full", epsilon=1e-2)
    assert full == pytest.approx(1.5, rel=0.1)


def test_large_pictures_are_reduced_by_averaging_areas():
    random = np.random.default_rng(0)
    pattern = random.uniform(-1, 1, (512, 512, 3)).astype(np.float32)
    seen = []

    def paint(w):
        return pattern * w[:, 0, 0, None, None, None]

    def distance(images, others):
        seen.extend([images, others])
        return np.zeros(len(images))

    w, other = draw_random()(2)
    perceptual_path_length(paint, distance, draw_from([w, other]), 1)
    expected = pattern.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert [images.dtype for images in seen] == [np.float32] * 2
    np.testing.assert_allclose(seen[0][0], expected * w[0, 0], atol=1e-6)
    # At 256 and below they are left as they are.
    perceptual_path_length(lambda w: paint(w)[:, :256, :256], distance, draw_from([w, other]), 1)
    np.testing.assert_array_equal(seen[2][0], pattern[:256, :256] * w[0, 0])


def test_codes_would_swamp_the_step():
    lpips = make_distance("random")
    random = np.random.default_rng(0)
    patterns = random.uniform(-0.5, 0.5, (W, 64, 64, 3)).astype(np.float32)

    def paint(w):
        return np.tensordot(w[:, 0], patterns, 1)

    def rounded(w):
        return to_float(to_uint8(paint(w)))

    def measure(paint, epsilon=1e-4):
        return perceptual_path_length(
            paint, lpips.between_floats, draw_random(), 8, epsilon=epsilon
        )

    # Where nothing swamps it, the length does not depend on the step.
    assert measure(paint) == pytest.approx(measure(paint, 1e-3), rel=0.02)
    assert not 0.5 < measure(rounded) / measure(paint) < 2


def test_errors_are_sentences():
    def measure(paint=paint_linear, **changes):
        arguments = {"samples": 2, **changes}
        return perceptual_path_length(paint, squared, draw_random(), **arguments)

    with pytest.raises(ConfigError, match="samples must be at least 1.*got 0 and 0.0001"):
        measure(samples=0)
    with pytest.raises(ConfigError, match="epsilon above 0, got 2 and 0"):
        measure(epsilon=0)
    with pytest.raises(ConfigError, match=r"\[N, S, S, 3\] float.*got uint8 \[4, 4, 4, 3\]"):
        measure(lambda w: to_uint8(paint_linear(w)))
    with pytest.raises(ConfigError, match=r"got float64 \[4, 3, 4, 3\]"):
        measure(lambda w: paint_linear(w)[:, 1:])
    with pytest.raises(DataError, match="not finite"):
        measure(lambda w: paint_linear(w) * np.nan)
