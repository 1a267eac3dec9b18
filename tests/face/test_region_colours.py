import numpy as np

from facegan.face.region_colours import MOST, learn_colours, look_up, sort_out, to_lab, unlike

RED, BLUE, GREY = (200, 40, 40), (30, 60, 180), (128, 128, 128)


def pixels(colour, count=400, spread=6, seed=0):
    """CIELAB colours around an RGB colour."""
    rng = np.random.default_rng(seed)
    rgb = np.clip(rng.normal(colour, spread, (1, count, 3)), 0, 255).astype(np.uint8)
    return to_lab(rgb)[0]


def test_a_region_s_own_colours_are_cheap_and_others_dear():
    tables = {"red": learn_colours(pixels(RED)), "blue": learn_colours(pixels(BLUE))}
    picture = to_lab(np.array([[RED, BLUE]], np.uint8))
    costs = look_up(picture, tables)
    assert costs["red"][0, 0] < 3 and costs["blue"][0, 1] < 3
    assert costs["red"][0, 1] == costs["blue"][0, 0] == MOST
    assert costs["red"].dtype == np.float32


def test_several_colours_belong_to_one_region():
    table = learn_colours(np.concatenate([pixels(RED), pixels(BLUE)]))
    costs = look_up(to_lab(np.array([[RED, BLUE, GREY]], np.uint8)), {"both": table})["both"][0]
    assert costs[0] < 5 and costs[1] < 5 and costs[2] > 10


def test_the_same_pixels_give_the_same_table():
    np.testing.assert_array_equal(learn_colours(pixels(RED)), learn_colours(pixels(RED)))


def test_unlike_keeps_what_no_region_has():
    mixed = np.concatenate([pixels(RED, 100, seed=1), pixels(GREY, 50, seed=1)])
    left = unlike(mixed, {"red": learn_colours(pixels(RED))}, 8.0)
    assert 48 <= len(left) <= 55


def test_sort_out_parts_what_is_mixed():
    hair = np.concatenate([pixels(RED, 400, seed=1), pixels(GREY, 60, seed=1)])
    wall = np.concatenate([pixels(GREY, 400, seed=2), pixels(RED, 80, seed=2)])
    hair, wall = sort_out(hair, wall, 1.3)
    assert abs(len(hair) - 400) < 12 and abs(len(wall) - 400) < 12
    # A bald head before a wall: nothing over it is likelier than at the edge.
    nothing, _ = sort_out(pixels(GREY, 300, seed=3), pixels(GREY, 300, seed=4), 1.3)
    assert len(nothing) < 100
    few = pixels(RED, 5)
    assert sort_out(few, wall, 1.3)[0] is few
