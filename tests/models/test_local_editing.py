import json
import math

import numpy as np
import pytest

from facegan.config import decode, encode, set_by_name
from facegan.errors import ConfigError, DataError
from facegan.face.labels import BISENET19, CELEBAMASK19, GROUPS7
from facegan.models import local_editing
from facegan.models.local_editing import (
    PARTS,
    Catalogue,
    EditConfig,
    assign_clusters,
    choose_channels,
    count_parts,
    load_catalogue,
    measure_contributions,
    name_clusters,
    part_labels,
    part_names,
    spherical_k_means,
    spread_membership,
    spread_size,
    transfer,
)

# Three directions that are far from each other, in four dimensions.
DIRECTIONS = np.eye(4)[:3] * 0.9 + 0.1


def gathered(count=300, seed=0):
    """Vectors around the directions, of any length, and which is whose."""
    random = np.random.default_rng(seed)
    owner = random.integers(0, 3, count)
    vectors = DIRECTIONS[owner] + 0.05 * random.standard_normal((count, 4))
    return (vectors * random.uniform(0.1, 10, (count, 1))).astype(np.float32), owner


def nearest(centroids):
    """Cosines [3] of the directions to the centroids that are nearest."""
    unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
    return (unit @ centroids.T).max(axis=1)


def test_clusters_are_the_directions_around_which_vectors_gather():
    vectors, owner = gathered()
    centroids = spherical_k_means(vectors, 3, seed=5)
    assert centroids.shape == (3, 4) and centroids.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-6)
    assert nearest(centroids).min() > 0.999
    ids = assign_clusters(vectors.reshape(10, 30, 4), centroids).ravel()
    # One cluster for each direction, whatever its number.
    assert len(set(zip(ids, owner, strict=True))) == 3


def test_the_first_round_moves_directions_to_the_mean_of_unit_vectors():
    vectors = np.float32([[2, 0], [3, 3], [0, -1], [-1, -1]])
    start = np.float32([[1, 0], [0, -1]])
    mean, moved = local_editing._gather(vectors, start, 1, 0.0)
    root = math.sqrt(0.5)
    # Cosines to the nearest: 1, 0.7, 1, 0.7; sums (1 + root, root) and (-root, -1 - root).
    assert mean == pytest.approx((1 + root) / 2)
    expected = np.array([[1 + root, root], [-root, -1 - root]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_the_same_input_gives_the_same_bits():
    vectors, _ = gathered()
    first = spherical_k_means(vectors, 5, seed=3, restarts=2)
    np.testing.assert_array_equal(spherical_k_means(vectors, 5, seed=3, restarts=2), first)
    assert not np.array_equal(spherical_k_means(vectors, 5, seed=4), first)


def test_blocks_change_nothing_but_rounding(monkeypatch):
    vectors, _ = gathered()
    whole = spherical_k_means(vectors, 3)
    monkeypatch.setattr(local_editing, "_BLOCK", 7)
    np.testing.assert_allclose(spherical_k_means(vectors, 3), whole, atol=1e-5)


def test_more_tries_are_no_worse():
    vectors, _ = gathered()

    def mean_cosine(centroids):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (unit @ centroids.T).max(axis=1).mean()

    few, many = (spherical_k_means(vectors, 6, restarts=n) for n in (1, 5))
    assert mean_cosine(many) >= mean_cosine(few) - 1e-6


def test_zero_vectors_do_not_count():
    vectors, _ = gathered()
    vectors[::3] = 0
    centroids = spherical_k_means(vectors, 3, seed=1)
    assert nearest(centroids).min() > 0.999


def test_an_empty_cluster_starts_at_the_farthest_vector():
    vectors = np.float32([[1, 0, 0], [1, 0.1, 0], [0, 0, 1], [0, 0, 0]])
    start = np.float32([[1, 0, 0], [-1, 0, 0]])
    _, once = local_editing._gather(vectors, start, 1, 0.0)
    np.testing.assert_array_equal(once[1], [0, 0, 1])
    _, moved = local_editing._gather(vectors, start, 9, 0.0)
    np.testing.assert_array_equal(assign_clusters(vectors[:3], moved), [0, 0, 1])


def test_what_cannot_be_clustered_is_refused():
    vectors, _ = gathered()
    with pytest.raises(DataError, match="only 2 different directions, too few for 3 clusters"):
        spherical_k_means(np.float32([[1, 0], [2, 0], [0, 3], [0, 0]]), 3)
    with pytest.raises(DataError, match="have only 0 different directions"):
        spherical_k_means(np.zeros((5, 2), np.float32), 1)
    with pytest.raises(ConfigError, match="clusters must be at least 1, got 0"):
        spherical_k_means(vectors, 0)
    with pytest.raises(DataError, match=r"vectors \[N, C\] of floats, got \[4\] float32"):
        spherical_k_means(vectors[0], 1)
    vectors[7, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        spherical_k_means(vectors, 2)


def test_contributions_follow_from_the_moments():
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (6, 5, 5, 7)).astype(np.float32)
    x[..., 2] *= np.arange(1, 6)[:, None]
    ids = random.integers(0, 4, (6, 5, 5))
    u = np.eye(4)[ids]
    moments = [np.einsum("nhwc,nhwk->kc", power, u) / ids.size for power in (x, x**2)]
    shares = u.mean(axis=(0, 1, 2))
    found = measure_contributions({"conv": np.stack(moments)}, {"conv": shares})["conv"]
    a = (x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))
    direct = np.einsum("nhwc,nhwk->kc", a**2, u) / ids.size
    np.testing.assert_allclose(found, direct, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-6)


def test_a_channel_that_is_silent_elsewhere_belongs_to_one_cluster():
    u = np.zeros((2, 4, 4, 3))
    u[:, :2, :, 0] = u[:, 2:, :2, 1] = u[:, 2:, 2:, 2] = 1
    x = np.zeros((2, 4, 4, 2))
    x[..., 0] = u[..., 1] * np.array([1, -1])[:, None, None]
    x[..., 1] = 7  # the same everywhere
    moments = np.stack([np.einsum("nhwc,nhwk->kc", x**p, u) / 32 for p in (1, 2)])
    found = measure_contributions({"a": moments}, {"a": np.array([0.5, 0.25, 0.25])})["a"]
    np.testing.assert_allclose(found[:, 0], [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(found[:, 1], [0.5, 0.25, 0.25])


def test_memberships_spread_into_the_neighbourhood():
    membership = np.zeros((1, 8, 8, 2), np.float32)
    membership[0, 2:4, 0:2, 0] = 1  # the pixel (1, 0) of 4x4
    membership[..., 1] = 1 - membership[..., 0]
    spread = spread_membership(membership, 4)
    grid = np.zeros((4, 4))
    # A 3x3 mean; at the left edge the pixel counts for the one beyond, too.
    grid[0:3, 0], grid[0:3, 1] = 2 / 9, 1 / 9
    np.testing.assert_allclose(spread[0, ..., 0], grid.repeat(2, 0).repeat(2, 1), rtol=1e-6)
    np.testing.assert_allclose(spread.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(spread_membership(membership, 16), membership)
    assert [spread_size(name) for name in ("conv_4", "rgb_4", "up_8")] == [4, None, 4]


def test_parts_gather_labels_of_every_schema():
    for schema in (CELEBAMASK19, BISENET19):
        assert set(part_names(schema)) == set(PARTS)
        named = {schema.labels[i] for part in PARTS for i in part_labels(part, schema)}
        assert named == set(schema.labels)
    assert part_labels("eyes", CELEBAMASK19) == (3, 4, 5)
    # Labels that are groups already keep their names.
    assert part_names(GROUPS7)[1:] == GROUPS7.labels[1:]
    with pytest.raises(ConfigError, match="A part must be one of .*; got 'eye'. Did you mean"):
        part_labels("eye", CELEBAMASK19)


def test_pixels_are_counted_where_clusters_and_labels_meet():
    nose, eye = CELEBAMASK19.index("nose"), CELEBAMASK19.index("l_eye")
    ids = np.array([[[0, 1], [2, 1]]])
    label_map = np.zeros((1, 4, 4), np.uint8)
    label_map[0, :2, :2] = nose
    label_map[0, 0, 3] = eye
    parts = part_names(CELEBAMASK19)
    counts = count_parts(ids, label_map, CELEBAMASK19, 3)
    found = {(k, parts[p]): int(counts[k, p]) for k, p in zip(*np.nonzero(counts), strict=True)}
    assert found == {
        (0, "nose"): 4,
        (1, "eyes"): 1,
        (1, "background"): 7,
        (2, "background"): 4,
    }
    # The other way round, too: maps that are smaller than the clusters'.
    small = count_parts(ids.repeat(4, 1).repeat(4, 2), label_map, CELEBAMASK19, 3)
    np.testing.assert_array_equal(small, 4 * counts)
    with pytest.raises(DataError, match="the size of one a multiple"):
        count_parts(np.zeros((1, 3, 3), int), label_map, CELEBAMASK19, 3)
    with pytest.raises(DataError, match="they must be as many"):
        count_parts(ids, label_map.repeat(2, axis=0), CELEBAMASK19, 3)


def contributions():
    # Clusters 0 and 2 are the eyes', 1 is the mouth's. Sums over clusters are 1.
    return {
        "conv_4": np.float32(
            [[0.6, 0.1, 0.0, 0.2, 0.4], [0.2, 0.9, 1.0, 0.1, 0.5], [0.2, 0.0, 0.0, 0.7, 0.1]]
        ),
        "rgb_4": np.float32([[0.5, 1.0], [0.5, 0.0], [0.0, 0.0]]),
    }


def catalogue(**changes):
    made = {
        "contributions": contributions(),
        "names": ("eyes", "mouth", "eyes"),
        "centroids": np.eye(3, 4, dtype=np.float32),
        "fingerprint": "abc",
        "settings": {"kind": "catalogue", "seed": 1},
    }
    return Catalogue(**{**made, **changes})


def scales(seed, batch=2):
    random = np.random.default_rng(seed)
    widths = {"conv_4": 5, "rgb_4": 2}
    return {
        name: random.normal(size=(batch, width)).astype(np.float32)
        for name, width in widths.items()
    }


def test_channels_are_taken_until_the_budget_is_spent():
    m = np.array([0.5, 0.9, 0.2, 0.7, 0.9])
    # In order: 1 and 4 (0.9, spent 0.1, 0.2), 3 (0.7, 0.5), 0 (0.5, 1.0), 2 (0.2, 1.8); of 5.
    by_hand = {0.01: [], 0.03: [1], 0.09: [1, 4], 0.18: [1, 3, 4], 0.3: [0, 1, 3, 4]}
    for epsilon, expected in by_hand.items():
        chosen = choose_channels(m, rho=0.0, epsilon=epsilon)
        np.testing.assert_array_equal(np.flatnonzero(chosen), expected)
    assert choose_channels(m, rho=0.0, epsilon=math.inf).all()
    chosen = choose_channels(m, rho=0.7, epsilon=math.inf)
    np.testing.assert_array_equal(np.flatnonzero(chosen), [1, 4])
    chosen = choose_channels(m, rho=np.array([0, 0, 0, 0.8, 0.95]), epsilon=math.inf)
    np.testing.assert_array_equal(np.flatnonzero(chosen), [0, 1, 2])


def test_a_part_has_the_energy_of_all_its_clusters():
    made = catalogue(shares=np.float32([0.1, 0.8, 0.1]))
    assert made.parts == ("eyes", "mouth") and made.layers == {"conv_4": 5, "rgb_4": 2}
    # The eyes have 0.8, 0.1, 0, 0.9, 0.5 of the energy and 0.2 of the pixels, so that their pixels
    # have 16, 4/9, 0, 36 and 4 times as much as others.
    found = made.part_contributions("eyes")["conv_4"]
    np.testing.assert_allclose(found, [16 / 17, 4 / 13, 0.0, 36 / 37, 4 / 5], rtol=1e-6)
    # Without shares the three clusters are equally large.
    found = catalogue().part_contributions("mouth")["rgb_4"]
    np.testing.assert_allclose(found, [2 / 3, 0.0], rtol=1e-6)


def test_a_part_that_is_all_has_all():
    made = catalogue(names=("eyes",) * 3, shares=np.float32([0.1, 0.8, 0.1]))
    np.testing.assert_allclose(made.part_contributions("eyes")["conv_4"], 1, rtol=1e-6)


def chosen_by_layer(part="eyes", **settings):
    made = catalogue(shares=np.float32([0.25, 0.5, 0.25]))
    # The eyes' contributions: conv_4 has 0.8, 0.1, 0.0, 0.9, 0.5 and rgb_4 has 0.5, 1.0.
    chosen = made.choose(part, EditConfig(**settings))
    return {name: np.flatnonzero(mask).tolist() for name, mask in chosen.items()}


def test_layers_share_one_budget_or_have_their_own():
    # In order: 1.0, 0.9, 0.8, 0.5, 0.5, 0.1, 0.0; spent 0, 0.1, 0.3, 0.8, 1.3, 2.2, 3.2 of 7.
    assert chosen_by_layer(epsilon=0.2 / 7) == {"conv_4": [3], "rgb_4": [1]}
    assert chosen_by_layer(epsilon=1.2 / 7) == {"conv_4": [0, 3, 4], "rgb_4": [1]}
    assert chosen_by_layer(epsilon=9.0) == {"conv_4": [0, 1, 3, 4], "rgb_4": [0, 1]}
    assert chosen_by_layer(epsilon=9.0, layers=("rgb_4",)) == {"conv_4": [], "rgb_4": [0, 1]}
    assert chosen_by_layer(epsilon=9.0, layers=()) == {"conv_4": [], "rgb_4": []}
    # By layer: conv_4 spends 0.1, 0.3, 0.8, ... of 5, and rgb_4 0, 0.5 of 2.
    own = {"conv_4": 0.4 / 5, "rgb_4": 0.4 / 2}
    assert chosen_by_layer(epsilon=own) == {"conv_4": [0, 3], "rgb_4": [1]}
    assert chosen_by_layer(epsilon={"conv_4": 9.0}) == {"conv_4": [0, 1, 3, 4], "rgb_4": []}
    found = chosen_by_layer(epsilon=9.0, rho={"conv_4": 0.6, "rgb_4": 0.4})
    assert found == {"conv_4": [0, 3], "rgb_4": [0, 1]}


def test_transfer_changes_the_chosen_channels_alone():
    target, reference = scales(0), scales(1, batch=1)
    config = EditConfig(rho=0.6, epsilon=9.0, strength=0.25, layers=("conv_4",))
    made = catalogue(shares=np.float32([0.25, 0.5, 0.25]))
    found = transfer(target, reference, made, ["eyes"], config)
    expected = target["conv_4"].copy()
    for channel in (0, 3):
        a, b = target["conv_4"][:, channel], reference["conv_4"][:, channel]
        expected[:, channel] = 0.75 * a + 0.25 * b
    np.testing.assert_allclose(found["conv_4"], expected, rtol=1e-6)
    np.testing.assert_array_equal(found["rgb_4"], target["rgb_4"])
    assert found["conv_4"].dtype == np.float32


def test_all_parts_together_give_the_other_face():
    target, reference = scales(0), scales(1)
    config = EditConfig(rho=0.0, epsilon=math.inf)
    found = transfer(target, reference, catalogue(), ["mouth", "eyes"], config)
    for name in found:
        np.testing.assert_array_equal(found[name], reference[name])
    none = transfer(target, reference, catalogue(), ["mouth"], EditConfig(strength=0))
    np.testing.assert_array_equal(none["conv_4"], target["conv_4"])


def test_what_cannot_be_transferred_is_refused():
    made, given = catalogue(), scales(0)
    with pytest.raises(ConfigError, match="A part must be one of eyes, mouth; got 'nose'"):
        transfer(given, given, made, ["nose"])
    with pytest.raises(ConfigError, match="other layers or widths than the scales: rgb_4"):
        transfer(given, {**given, "rgb_4": given["conv_4"]}, made, ["eyes"])
    with pytest.raises(ConfigError, match="A layer must be one of conv_4, rgb_4; got 'conv_8'"):
        transfer(given, given, made, ["eyes"], EditConfig(layers=("conv_8",)))
    with pytest.raises(ConfigError, match="rho must have a number for each layer .*; 'rgb_4' is"):
        transfer(given, given, made, ["eyes"], EditConfig(rho={"conv_4": 0.1}))
    with pytest.raises(ConfigError, match="for another bundle"):
        made.check_bundle("xyz")
    made.check_bundle("abc")


def test_settings_of_an_edit_are_checked_and_travel_as_json():
    config = EditConfig(rho={"conv_4": 0.1}, epsilon=3.0, layers=("conv_4",))
    document = json.loads(json.dumps(encode(config)))
    assert decode(EditConfig, document) == config
    assert set_by_name(EditConfig(), ["epsilon=5"]).epsilon == 5.0
    with pytest.raises(ConfigError, match="rho must be at least 0, got -1"):
        EditConfig(rho=-1.0)
    with pytest.raises(ConfigError, match="epsilon must be at least 0, got nan"):
        EditConfig(epsilon={"conv_4": math.nan})
    with pytest.raises(ConfigError, match="strength must be from 0 to 4, got 5"):
        EditConfig(strength=5.0)


def test_a_catalogue_comes_back_as_it_was_saved(tmp_path):
    made = catalogue()
    made.save(tmp_path / "a.npz")
    made.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a.npz", "b.npz"}
    found = load_catalogue(tmp_path / "a.npz")
    assert list(found.contributions) == list(made.contributions)
    for name, array in made.contributions.items():
        np.testing.assert_array_equal(found.contributions[name], array)
    np.testing.assert_array_equal(found.centroids, made.centroids)
    for name in ("names", "fingerprint", "settings"):
        assert getattr(found, name) == getattr(made, name)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    catalogue().save(path)
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    header = json.loads(str(arrays["header"]))

    def refused(match, error=DataError):
        with pytest.raises(error, match=match):
            load_catalogue(path)

    def write(**changes):
        kept = {**arrays, **changes}
        np.savez(path, **{name: array for name, array in kept.items() if array is not None})

    def headed(**changes):
        return np.array(json.dumps({**header, **changes}))

    path.write_bytes(whole[: len(whole) // 2])
    refused("a.npz cannot be read as a catalogue: .* or make it again")
    # One bit of a number that would still be one.
    place = whole.index(arrays["layer/conv_4"].tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    refused("cannot be read as a catalogue")
    path.write_text("{}")
    refused("cannot be read as a catalogue")
    np.savez(path, weights=np.zeros(3))
    refused("it has no header")
    write(header=headed(kind="other"))
    refused("its kind is not 'local_editing'")
    write(header=headed(version=2))
    refused("has version 2; this facegan reads version 1", ConfigError)
    write(header=headed(layers=["conv_4"]))
    refused("layer/rgb_4 is missing or unknown")
    write(centroids=None)
    refused("centroids is missing or unknown")
    write(**{"layer/rgb_4": arrays["layer/rgb_4"] * 2})
    refused("must be at least 0 and have the sum 1")
    write(shares=np.float32([0.5, 0.5, 0.5]))
    refused(r"The shares of a catalogue must be \[3\], at least 0 and have the sum 1")
    write(**{"layer/rgb_4": arrays["layer/rgb_4"][:2]})
    refused(r"'rgb_4' of a catalogue must be finite float32 \[3, C\], got float32 \[2, 2\]")
    write(centroids=np.array([None, 1], object))
    refused("cannot be read as a catalogue: .*allow_pickle")
    path.unlink()
    refused("No such file")
    with pytest.raises(DataError, match="Cannot write"):
        catalogue().save(tmp_path / "missing" / "a.npz")


def test_a_catalogue_needs_layers_and_clusters():
    with pytest.raises(DataError, match="at least one cluster and one layer"):
        catalogue(contributions={})


def test_clusters_are_named_after_the_part_they_tell_best():
    parts = ("background", "skin", "eyes", "mouth")
    counts = np.array(
        [
            [900, 30, 0, 0],
            [90, 300, 10, 5],
            [0, 40, 30, 0],  # more skin than eyes, but most of the eyes
            [10, 250, 5, 10],
            [0, 0, 0, 0],  # nowhere in these pictures
        ]
    )
    names = name_clusters(counts, parts)
    assert names[:4] == ("background", "skin", "eyes", "skin")
    assert names[4] in parts
