"""Which channels of a StyleGAN2 bundle change which part of a face, found by looking at its faces.

Reference: Collins et al., "Editing in Style: Uncovering the Local Semantics of GANs", CVPR 2020,
section 3. Difference: what the authors name by hand, a face parser names.
"""

from __future__ import annotations

import colorsys
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np

from facegan.bundle import read_manifest
from facegan.config import decode, encode
from facegan.errors import ConfigError, DataError
from facegan.evaluation.locality import Locality, mean_locality, measure_edit
from facegan.face.label_maps import resize_labels
from facegan.face.labels import LabelSchema, schema_colours
from facegan.face.landmarks import DetectorConfig
from facegan.face.parsing import ParserConfig, make_parser
from facegan.image import make_grid, resize, to_uint8, write_image
from facegan.models.local_editing import (
    Catalogue,
    EditConfig,
    assign_clusters,
    count_parts,
    measure_contributions,
    name_clusters,
    part_labels,
    part_names,
    spherical_k_means,
    spread_membership,
    spread_size,
    transfer,
)
from facegan.preparation.small_faces import find_small_face
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.sampling import draw_latents, latent_conditioning, map_latents

ENDING = ".npz"
# What is painted together has so many pixels at most, and so many pictures. Memberships at full
# size take most of the memory.
_MOST_PIXELS, _MOST_PICTURES = 1 << 19, 16
# Pictures of an overview, and their least height and width.
_SHOWN, _SHOWN_PX = 10, 128
# How far the region of a part is widened before an edit is measured in it: the share of the
# picture's side. A part's outline moves with it.
_MARGIN = 0.02
# More draws than so many times the pairs that are asked for mean that the model paints no faces.
_MOST_DRAWS = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueConfig:
    """How the channels of a bundle are looked into.

    Attributes:
        samples: Faces that are drawn.
        clusters: Groups of alike pixels; several may make up a part.
        pixels: Of each face, drawn among all, from which the clusters are found.
        named: From so many faces the clusters get their names.
        truncation: Of the faces; 1 is the most various.
        seed: Of all draws.
        parser: Finds the regions of the faces.
        detector: Finds the faces for it.
    """

    KIND: ClassVar[str] = "catalogue"

    samples: int = 500
    clusters: int = 24
    pixels: int = 256
    named: int = 200
    truncation: float = 1.0
    seed: int = 0
    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    detector: DetectorConfig = DetectorConfig()

    def __post_init__(self) -> None:
        for name in ("samples", "pixels", "named"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.clusters < 2:
            raise ConfigError(f"clusters must be at least 2, got {self.clusters}.")
        if not 0 < self.truncation <= 1:
            raise ConfigError(f"truncation must be in (0, 1], got {self.truncation}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}.")


class _Sampler:
    """Draws faces of a bundle and paints them."""

    def __init__(self, bundle: str | os.PathLike[str]) -> None:
        self.manifest = read_manifest(bundle)
        latent_conditioning(self.manifest)
        self.methods = BundleMethods(bundle, self.manifest)
        pictures = _MOST_PIXELS // self.manifest.image_size**2
        self.batch_size = max(1, min(_MOST_PICTURES, pictures))

    def draw(self, random: np.random.Generator, count: int, truncation: float) -> np.ndarray:
        """Styles w [count, num_styles, style_size]."""
        return map_latents(self.methods, draw_latents(self.methods, random, count), truncation)

    def batches(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self.batch_size):
            yield slice(start, min(start + self.batch_size, count))

    def find_scales(self, w: np.ndarray) -> dict[str, np.ndarray]:
        return self.methods.run("find_scales", {"w": w})

    def paint(self, scales: dict[str, np.ndarray]) -> np.ndarray:
        """[B, H, W, 3] uint8."""
        return to_uint8(self.methods.run("paint_scales", scales)["image"])


class _Regions:
    """Finds the regions of painted faces, which may be too small for a detector."""

    def __init__(self, parser: ParserConfig, detector: DetectorConfig) -> None:
        self._parser = make_parser(parser, load_engine)
        self._detector = detector
        self.schema: LabelSchema = self._parser.schema

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """[S, S] uint8 ids of the schema, S the parser's size; None where no face is found."""
        face = find_small_face(image, self._detector)
        if face is None:
            return None
        size = self._parser.size
        # Straight from the picture: enlarged and reduced again it would be blurred.
        shown = resize(image, size, size)
        return self._parser(shown, face.resize(size, size).landmarks_xy_px)


def fit_catalogue(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: CatalogueConfig | None = None,
    *,
    overview: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Makes the catalogue of a bundle, which local editing needs.

    Args:
        bundle: An exported StyleGAN2.
        output: The ``.npz`` file to write.
        config: How.
        overview: A picture file that shows faces, their clusters, these as parts, and the parser's
            regions, one below the other.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``samples``, ``named`` (faces that gave names), ``clusters`` (of each its
        ``name``, its ``share`` of all pixels and how much of it lies ``inside`` that part),
        ``parts`` (those that can be edited) and ``missing`` (those in the pictures after which no
        cluster is named).

    Raises:
        BundleError: The bundle makes no faces of noise.
        ConfigError: The output cannot be written under this name.
        DataError: No face is found in any of the pictures, or they are all alike.
    """
    config = config or CatalogueConfig()
    output = pathlib.Path(output)
    _check_output(output, overwrite)
    sampler = _Sampler(bundle)
    regions = _Regions(config.parser, config.detector)
    random = np.random.default_rng(config.seed)
    w = sampler.draw(random, config.samples, config.truncation)
    centroids = _find_centroids(sampler, w, config, random, progress)
    contributions, ids, shares = _weigh(sampler, w, centroids, progress)
    faces = _find_regions(sampler, regions, w[: config.named], progress)
    if not faces:
        raise DataError(
            f"No face is found in {min(config.named, config.samples)} pictures of {bundle}, so its "
            "clusters cannot be named. Train the model for longer, or lower the truncation."
        )
    found = sorted(faces)
    maps = np.stack([faces[number][1] for number in found])
    parts = part_names(regions.schema)
    counts = count_parts(ids[found], maps, regions.schema, config.clusters)
    names = name_clusters(counts, parts)
    catalogue = Catalogue(
        contributions=contributions,
        names=names,
        centroids=centroids,
        fingerprint=sampler.manifest.fingerprint(),
        shares=shares.astype(np.float32),
        settings=encode(config),
    )
    catalogue.save(output)
    if overview is not None:
        chosen = found[:_SHOWN]
        rows = [(faces[number][0], ids[number], faces[number][1]) for number in chosen]
        write_image(overview, _draw_overview(rows, names, regions.schema))
    inside = counts[np.arange(config.clusters), [parts.index(name) for name in names]]
    return {
        "output": str(output),
        "samples": config.samples,
        "named": len(found),
        "clusters": [
            {
                "name": name,
                "share": round(float(share), 4),
                "inside": round(float(own / max(total, 1)), 4),
            }
            for name, share, own, total in zip(
                names, shares, inside, counts.sum(axis=1), strict=True
            )
        ],
        "parts": list(catalogue.parts),
        "missing": [
            part
            for part, count in zip(parts, counts.sum(axis=0), strict=True)
            if count and part not in names
        ],
    }


def _check_output(output: pathlib.Path, overwrite: bool) -> None:
    if output.suffix != ENDING:
        raise ConfigError(f"A catalogue is an {ENDING} file, got {output}; give it that ending.")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} is there already. Allow overwriting, or name another.")


def _find_centroids(
    sampler: _Sampler,
    w: np.ndarray,
    config: CatalogueConfig,
    random: np.random.Generator,
    progress: ProgressFactory,
) -> np.ndarray:
    vectors = []
    with progress("Cluster") as report:
        for rows in sampler.batches(len(w)):
            report(rows.start, len(w), "face")
            for grid in _trace(sampler, w[rows]):
                pixels = grid.reshape(-1, grid.shape[-1])
                count = min(config.pixels, len(pixels))
                vectors.append(pixels[random.choice(len(pixels), count, replace=False)])
        found = spherical_k_means(np.concatenate(vectors), config.clusters, seed=config.seed)
        report(len(w), len(w), "face")
    return found


def _trace(sampler: _Sampler, w: np.ndarray) -> np.ndarray:
    return sampler.methods.run("trace_features", {"w": w})["features"]


def _weigh(
    sampler: _Sampler, w: np.ndarray, centroids: np.ndarray, progress: ProgressFactory
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Contributions by layer, the clusters of all pixels [N, S, S], and their shares [K]."""
    # A catalogue has the layers in the bundle's order, whatever that of a method's outputs is.
    layers = [spec.name for spec in sampler.manifest.methods["find_scales"].outputs]
    # Each layer's memberships are spread as far as its kernel goes; 0 is not at all.
    cluster_size = sampler.manifest.methods["trace_features"].outputs[0].shape[1] or 0
    reach = {name: spread_size(name) or 0 for name in layers}
    reach = {name: size if size <= cluster_size else 0 for name, size in reach.items()}
    sizes = sorted(set(reach.values()) - {0})
    clusters = len(centroids)
    moments: dict[str, Any] = dict.fromkeys(layers, 0.0)
    shares: Any = 0.0
    ids = []
    with progress("Weigh") as report:
        for rows in sampler.batches(len(w)):
            report(rows.start, len(w), "face")
            ids.append(assign_clusters(_trace(sampler, w[rows]), centroids))
            own = (ids[-1][..., None] == np.arange(clusters)).astype(np.float32)
            # All in one call: the layers' features cost more than the memberships.
            membership = np.concatenate(
                [own, *(spread_membership(own, size) for size in sizes)], axis=-1
            )
            weighed = sampler.methods.run(
                "weigh_channels", {"w": w[rows], "membership": membership}
            )
            shares = shares + membership.mean(axis=(1, 2), dtype=np.float64).sum(axis=0)
            for name in layers:
                moments[name] = moments[name] + weighed[name].sum(axis=0, dtype=np.float64)
        report(len(w), len(w), "face")
    first = {name: clusters * [0, *sizes].index(size) for name, size in reach.items()}
    places = {name: slice(start, start + clusters) for name, start in first.items()}
    contributions = measure_contributions(
        {name: moments[name][:, places[name]] / len(w) for name in layers},
        {name: shares[places[name]] / len(w) for name in layers},
    )
    return contributions, np.concatenate(ids), shares[:clusters] / len(w)


def _find_regions(
    sampler: _Sampler, regions: _Regions, w: np.ndarray, progress: ProgressFactory
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Pictures and label maps of the faces in which one is found, by number."""
    faces = {}
    with progress("Name") as report:
        for rows in sampler.batches(len(w)):
            report(rows.start, len(w), "face")
            images = sampler.paint(sampler.find_scales(w[rows]))
            for number, image in enumerate(images, rows.start):
                label_map = regions(image)
                if label_map is not None:
                    faces[number] = (image, label_map)
        report(len(w), len(w), "face")
    return faces


def _draw_overview(
    faces: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    names: tuple[str, ...],
    schema: LabelSchema,
) -> np.ndarray:
    """Rows of pictures, clusters, clusters as parts, and the parser's regions."""
    size = max(_SHOWN_PX, faces[0][0].shape[0])
    hues = [colorsys.hsv_to_rgb(i * 0.618 % 1, 0.8, 1 - i % 3 / 4) for i in range(len(names))]
    own = np.array(hues) * 255
    labels = np.array(schema_colours(schema))
    parts = np.array([labels[part_labels(name, schema)[0]] for name in names])

    def paint(grid: np.ndarray, colours: np.ndarray) -> np.ndarray:
        return colours.astype(np.uint8)[resize_labels(grid.astype(np.uint8), size, size)]

    return make_grid(
        [
            [resize(image, size, size) for image, _, _ in faces],
            [paint(ids, own) for _, ids, _ in faces],
            [paint(ids, parts) for _, ids, _ in faces],
            [paint(label_map, labels) for _, _, label_map in faces],
        ]
    )


def measure_locality(
    bundle: str | os.PathLike[str],
    catalogue: Catalogue,
    part: str,
    *,
    pairs: int = 50,
    seed: int = 0,
    config: EditConfig | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Measures how much of a part's edit lies in the part.

    Faces are drawn in pairs, and the first gets the part of the second. What counts as inside is
    the part's region before and after, slightly widened.

    Args:
        bundle: The bundle of the catalogue.
        catalogue: Its catalogue; parser, detector and truncation are those it was made with.
        part: Which.
        pairs: How many; those without a face or without the part are drawn again.
        seed: Of the draws.
        config: Which channels are changed, and how far.
        progress: Opens the progress of a named stage.

    Returns:
        ``part``, ``pairs``, ``inside`` and ``outside`` (mean squared differences of a pixel in
        CIELAB, each of its axes from 0 to 1) and ``ratio`` (of these means; None where nothing
        changed outside).

    Raises:
        ConfigError: The catalogue is another bundle's, or has no such part.
        DataError: Most pictures show no face with such a part.
    """
    sampler = _Sampler(bundle)
    catalogue.check_bundle(sampler.manifest.fingerprint())
    made = decode(CatalogueConfig, catalogue.settings)
    regions = _Regions(made.parser, made.detector)
    labels = part_labels(part, regions.schema)
    random = np.random.default_rng(seed)
    edits: list[Locality] = []
    drawn = 0
    with progress("Measure") as report:
        while len(edits) < pairs:
            report(len(edits), pairs, "pair")
            if drawn >= _MOST_DRAWS * pairs:
                raise DataError(
                    f"Only {len(edits)} of {drawn} pictures show a face with the part {part!r}, so "
                    "its edits cannot be measured."
                )
            drawn += 1
            scales = sampler.find_scales(sampler.draw(random, 2, made.truncation))
            target = {name: value[:1] for name, value in scales.items()}
            reference = {name: value[1:] for name, value in scales.items()}
            edited = transfer(target, reference, catalogue, [part], config)
            before, after = sampler.paint(target)[0], sampler.paint(edited)[0]
            mask = _mask_part(regions, before, after, labels)
            if mask is not None and mask.any() and not mask.all():
                edits.append(measure_edit(before, after, mask))
        report(pairs, pairs, "pair")
    mean = mean_locality(edits)
    return {
        "part": part,
        "pairs": pairs,
        "inside": mean.inside,
        "outside": mean.outside,
        "ratio": mean.ratio if math.isfinite(mean.ratio) else None,
    }


def _mask_part(
    regions: _Regions, before: np.ndarray, after: np.ndarray, labels: tuple[int, ...]
) -> np.ndarray | None:
    """Where a part is before or after an edit, widened: [H, W] bool; None if it is not there."""
    label_map = regions(before)
    if label_map is None or not np.isin(label_map, labels).any():
        return None
    shown = np.isin(label_map, labels)
    changed = regions(after)
    if changed is not None:
        shown |= np.isin(changed, labels)
    size = before.shape[0]
    radius = max(1, round(_MARGIN * size))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    share = resize(shown.astype(np.float32)[..., None], size, size)[..., 0]
    return cv2.dilate((share >= 0.5).astype(np.uint8), kernel) > 0
