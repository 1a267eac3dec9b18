"""The styles of faces: of photographs, by a search that is kept, or drawn by a number."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from facegan.bundle import Manifest
from facegan.config import encode
from facegan.errors import CheckpointError, ConfigError, DataError
from facegan.evaluation.ssim import psnr
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float, to_uint8
from facegan.models.local_editing import Catalogue, EditConfig, transfer
from facegan.preparation.squares import Square, cut_square, read_photo_file
from facegan.progress import ProgressFactory, no_progress
from facegan.render.engine import BundleMethods
from facegan.render.sampling import (
    W,
    draw_latents,
    draw_seeded_latents,
    latent_conditioning,
    map_latents,
    read_w,
    style_shape,
    write_w,
)
from facegan.render.workspace import identify_file
from facegan.training.perceptual_term import PerceptualTerm, pyramid_term
from facegan.training.projector import ProjectionConfig, Projector, StyleStatistics

# What compares pictures, besides weights files.
IMAGENET, STAND_IN = "imagenet", "random"

_SEED = re.compile(r"seed:(\d+)")
# Latents that are drawn to find where styles lie (Karras et al. 2020, appendix D).
_SAMPLES, _SAMPLES_SEED = 10_000, 123
_BATCH_SIZE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class FaceSource:
    """A face whose style need not be known yet.

    Attributes:
        name: The file, or "seed:3".
        seed: The number that draws it; None for a photograph.
        photo: [H, W, 3] uint8, the whole photograph, upright; None for a drawn face.
        square: Its square, as large as what the bundle paints; None for a drawn face.
    """

    name: str
    seed: int | None = None
    photo: np.ndarray | None = None
    square: Square | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FaceStyle:
    """A face, and the style that paints it.

    Attributes:
        source: The face.
        w: [num_styles, style_size] float32.
        painted: [S, S, 3] uint8, what the bundle paints of it.
        psnr: Of that against the photograph's square, in dB; None for a drawn face.
    """

    source: FaceSource
    w: np.ndarray
    painted: np.ndarray
    psnr: float | None = None


def find_seed(face: str) -> int | None:
    """The number of a face that is drawn, as "seed:3"; None for a file."""
    drawn = _SEED.fullmatch(face)
    return None if drawn is None else int(drawn[1])


def check_face(face: str, what: str) -> None:
    """Raises ConfigError unless a face is a file that exists, or "seed:N"."""
    if find_seed(face) is None and not pathlib.Path(face).is_file():
        raise ConfigError(
            f"The {what} {face} is no file that exists; name a picture, or seed:3 for a face that "
            "the model draws."
        )


def check_perceptual_net(source: str) -> None:
    """Raises ConfigError unless it is a word of ``make_vgg19`` or a file that exists."""
    if source not in (IMAGENET, STAND_IN) and not pathlib.Path(source).is_file():
        raise ConfigError(
            f"perceptual_net must be {IMAGENET}, {STAND_IN} or a weights file that exists; got "
            f"{source!r}."
        )


class StyleFinder:
    """Finds the styles of faces with a bundle that makes faces of noise.

    Args:
        bundle: The bundle.
        manifest: Its manifest.
        folder: Where styles that were found are kept, so that none is looked for twice; it need
            not be there before one is found.
        projection: How they are looked for.
        perceptual_net: What compares pictures meanwhile, as ``make_vgg19`` has it.
        detector: Finds the faces of photographs.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        manifest: Manifest,
        folder: pathlib.Path,
        projection: ProjectionConfig,
        perceptual_net: str,
        detector: DetectorConfig,
    ):
        self.manifest, self.conditioning = manifest, latent_conditioning(manifest)
        self._bundle = bundle
        self.projection, self._folder, self._detector = projection, folder, detector
        self._perceptual_net = perceptual_net
        self._statistics: StyleStatistics | None = None
        self._term: PerceptualTerm | None = None

    @functools.cached_property
    def methods(self) -> BundleMethods:
        """The bundle's; loading them takes a while."""
        return BundleMethods(self._bundle, self.manifest)

    def read(self, face: str) -> FaceSource:
        """Reads a face: a picture file, or "seed:N" for the one that is drawn by that number.

        Raises:
            DataError: The picture cannot be read, or shows no face where one is needed.
        """
        seed = find_seed(face)
        if seed is not None:
            return FaceSource(face, seed)
        photo, shown = read_photo_file(face), self.conditioning
        square = cut_square(photo, face, shown.size, align=shown.align, detector=self._detector)
        return FaceSource(face, None, photo, square)

    def prepare(self, sources: Iterable[FaceSource] | None = None) -> None:
        """Gets what a search needs, so that it is known early whether it can be had.

        Args:
            sources: Nothing is needed if the styles of all these faces are known. None is for
                faces that are not seen yet.

        Raises:
            CheckpointError: The network that compares pictures cannot be had.
        """
        if sources is not None:
            squares = [source.square for source in sources if source.square is not None]
            if not any(self._read_stored(square.image) is None for square in squares):
                return
        self._make_term(self.projection)

    def find(self, source: FaceSource, progress: ProgressFactory = no_progress) -> FaceStyle:
        """Finds the style of a face.

        Raises:
            CheckpointError: The network that compares pictures cannot be had.
            DataError: What was found cannot be kept.
        """
        if source.square is None:
            assert source.seed is not None  # it is either drawn or cut
            latents = draw_seeded_latents(self.methods, [source.seed])
            w = map_latents(self.methods, latents)[0]
            return FaceStyle(source, w, self.paint(w[None])[0])
        image = source.square.image
        w = self.find_w(image, pathlib.Path(source.name).name, progress)
        painted = self.paint(w[None])[0]
        return FaceStyle(source, w, painted, psnr(painted, image))

    def find_w(
        self, image: np.ndarray, name: str, progress: ProgressFactory = no_progress
    ) -> np.ndarray:
        """Finds the style of a square, and keeps it.

        Args:
            image: [S, S, 3] uint8, as large as what the bundle paints.
            name: How the progress calls it.
            progress: Opens the progress of a named stage.

        Returns:
            [num_styles, style_size] float32.

        Raises:
            CheckpointError: The network that compares pictures cannot be had.
            DataError: What was found cannot be kept.
        """
        w = self._read_stored(image)
        if w is None:
            projector = self.make_projector(self.projection)
            with progress(f"Project {name}") as report:
                w = projector.project(to_float(image[None]), progress=report)[0]
            write_w(self._stored_path(image), w[None])
        return w

    def paint(self, w: np.ndarray) -> np.ndarray:
        """Styles [N, num_styles, style_size] as pictures [N, S, S, 3] uint8."""
        return to_uint8(self.methods.run("generate", {W: w})["image"])

    def find_scales(self, w: np.ndarray) -> dict[str, np.ndarray]:
        """Layer -> [N, C] of styles [N, num_styles, style_size]."""
        return self.methods.run("find_scales", {W: w})

    def paint_scales(self, scales: dict[str, np.ndarray]) -> np.ndarray:
        """Pictures [N, S, S, 3] uint8 of scales."""
        return to_uint8(self.methods.run("paint_scales", scales)["image"])

    def paint_edited(
        self,
        w: np.ndarray,
        other_w: np.ndarray,
        catalogue: Catalogue,
        parts: Sequence[str],
        config: EditConfig,
    ) -> np.ndarray:
        """Paints faces with parts of another.

        Args:
            w: [N, num_styles, style_size] float32, of the faces.
            other_w: [1, num_styles, style_size] float32, of the other.
            catalogue: Of this bundle.
            parts: Which.
            config: Which channels are changed, and how far.

        Returns:
            [N, S, S, 3] uint8.

        Raises:
            ConfigError: The catalogue has no such part, or is another bundle's.
        """
        scales, others = self.find_scales(w), self.find_scales(other_w)
        return self.paint_scales(transfer(scales, others, catalogue, parts, config))

    def make_projector(self, projection: ProjectionConfig) -> Projector:
        """What looks for styles.

        Raises:
            CheckpointError: The network that compares pictures cannot be had.
        """

        def paint(w: Any) -> Any:
            return self.methods.run_tensors("generate", {W: w})["image"]

        num_styles, _ = style_shape(self.manifest)
        term = self._make_term(projection)
        return Projector(paint, num_styles, self._measure(), term, projection)

    def describe(self) -> dict[str, Any]:
        """JSON values that a style follows from, besides the picture."""
        net = self._perceptual_net
        if not self.projection.perceptual_weight:
            net = ""
        elif net not in (IMAGENET, STAND_IN):
            net = identify_file(net)
        return {
            "bundle": self.manifest.fingerprint(),
            "projection": encode(self.projection),
            "perceptual_net": net,
        }

    def _make_term(self, projection: ProjectionConfig) -> PerceptualTerm | None:
        if not projection.perceptual_weight:
            return None
        if self._term is None:
            term = pyramid_term(self._perceptual_net)
            try:
                term.prepare("float32")
            except CheckpointError as error:
                # Its own advice is about the settings of a training.
                raise CheckpointError(
                    f"VGG19, which compares pictures, cannot be had from {self._perceptual_net}: "
                    f"{error.__cause__ or error}. Give, as perceptual_net, the weights file "
                    "without the top that Keras distributes for keras.applications.VGG19, or "
                    f"{STAND_IN} for an untrained stand-in."
                ) from error
            self._term = term
        return self._term

    def _measure(self) -> StyleStatistics:
        if self._statistics is None:
            random = np.random.default_rng(_SAMPLES_SEED)
            latents = draw_latents(self.methods, random, _SAMPLES)
            parts = [
                map_latents(self.methods, latents[start : start + _BATCH_SIZE])[:, 0]
                for start in range(0, _SAMPLES, _BATCH_SIZE)
            ]
            self._statistics = StyleStatistics.of(np.concatenate(parts))
        return self._statistics

    def _stored_path(self, image: np.ndarray) -> pathlib.Path:
        """The file that keeps the style of a square: its name tells all that it follows from."""
        described = json.dumps(self.describe(), sort_keys=True).encode()
        key = hashlib.sha256(described + image.tobytes())
        return self._folder / f"{key.hexdigest()[:32]}.npz"

    def _read_stored(self, image: np.ndarray) -> np.ndarray | None:
        try:
            return read_w(self._stored_path(image), style_shape(self.manifest))[0]
        except DataError:  # there is none yet, or none of use
            return None
