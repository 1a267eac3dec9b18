"""The styles of faces: of photographs, by a search that is kept, or drawn by a number."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from facegan.bundle import Manifest
from facegan.config import encode
from facegan.errors import ConfigError, DataError
from facegan.evaluation.ssim import psnr
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float, to_uint8
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
from facegan.training.perceptual_term import PerceptualTerm, pyramid_term
from facegan.training.projector import ProjectionConfig, Projector, StyleStatistics

_SEED = re.compile(r"seed:(\d+)")
# Latents that are drawn to find where styles lie (Karras et al. 2020, appendix D).
_SAMPLES, _SAMPLES_SEED = 10_000, 123
_BATCH_SIZE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class FaceStyle:
    """A face, and the style that paints it.

    Attributes:
        name: The file, or "seed:3".
        w: [num_styles, style_size] float32.
        painted: [S, S, 3] uint8, what the bundle paints of it.
        photo: [H, W, 3] uint8, the whole photograph; None for a drawn face.
        square: Its square; None for a drawn face.
        psnr: Of the painted against the photographed square, in dB; None for a drawn face.
    """

    name: str
    w: np.ndarray
    painted: np.ndarray
    photo: np.ndarray | None = None
    square: Square | None = None
    psnr: float | None = None


def is_drawn(face: str) -> bool:
    """Whether a face is drawn by a number, "seed:3", and no file."""
    return _SEED.fullmatch(face) is not None


class StyleFinder:
    """Finds the styles of faces with a bundle that makes faces of noise.

    Args:
        bundle: The bundle.
        manifest: Its manifest.
        folder: Where styles that were found are kept, so that none is looked for twice.
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
        self.methods = BundleMethods(bundle, manifest)
        self.projection, self._folder, self._detector = projection, folder, detector
        self._perceptual_net = perceptual_net
        self._statistics: StyleStatistics | None = None
        self._term: PerceptualTerm | None = None

    def find(self, face: str, progress: ProgressFactory = no_progress) -> FaceStyle:
        """Finds the style of a face.

        Args:
            face: A picture file, or "seed:N" for the face that is drawn by that number.
            progress: Opens the progress of a named stage.

        Raises:
            DataError: The picture cannot be read, or shows no face where one is needed.
            CheckpointError: The network that compares pictures cannot be had.
        """
        drawn = _SEED.fullmatch(face)
        if drawn is not None:
            w = map_latents(self.methods, draw_seeded_latents(self.methods, [int(drawn[1])]))
            return FaceStyle(face, w[0], self.paint(w)[0])
        photo = read_photo_file(face)
        square = self.cut(photo, face)
        w = self._find_stored(square.image, face, progress)
        painted = self.paint(w[None])[0]
        return FaceStyle(face, w, painted, photo, square, psnr(painted, square.image))

    def cut(self, photo: np.ndarray, name: str) -> Square:
        """The square of a photograph that the bundle could paint."""
        shown = self.conditioning
        return cut_square(photo, name, shown.size, align=shown.align, detector=self._detector)

    def paint(self, w: np.ndarray) -> np.ndarray:
        """Styles [N, num_styles, style_size] as pictures [N, S, S, 3] uint8."""
        return to_uint8(self.methods.run("generate", {W: w})["image"])

    def find_scales(self, w: np.ndarray) -> dict[str, np.ndarray]:
        """Layer -> [N, C] of styles [N, num_styles, style_size]."""
        return self.methods.run("find_scales", {W: w})

    def paint_scales(self, scales: dict[str, np.ndarray]) -> np.ndarray:
        """Pictures [N, S, S, 3] uint8 of scales."""
        return to_uint8(self.methods.run("paint_scales", scales)["image"])

    def make_projector(self, projection: ProjectionConfig) -> Projector:
        """What looks for styles."""
        term = None
        if projection.perceptual_weight:
            if self._term is None:
                self._term = pyramid_term(self._perceptual_net)
                self._term.prepare("float32")
            term = self._term

        def paint(w: Any) -> Any:
            return self.methods.run_tensors("generate", {W: w})["image"]

        num_styles, _ = style_shape(self.manifest)
        return Projector(paint, num_styles, self._measure(), term, projection)

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

    def _find_stored(self, image: np.ndarray, name: str, progress: ProgressFactory) -> np.ndarray:
        made = {
            "bundle": self.manifest.fingerprint(),
            "projection": encode(self.projection),
            "perceptual_net": self._perceptual_net if self.projection.perceptual_weight else None,
        }
        key = hashlib.sha256(json.dumps(made, sort_keys=True).encode() + image.tobytes())
        path = self._folder / f"{key.hexdigest()[:32]}.npz"
        with contextlib.suppress(DataError):  # there is none yet, or none of use
            return read_w(path, style_shape(self.manifest))[0]
        projector = self.make_projector(self.projection)
        with progress(f"Project {pathlib.Path(name).name}") as report:
            w = projector.project(to_float(image[None]), progress=report)
        write_w(path, w)
        return w[0]


def check_face(face: str, what: str) -> None:
    """Raises ConfigError unless a face is a file that exists, or "seed:N"."""
    if not is_drawn(face) and not pathlib.Path(face).is_file():
        raise ConfigError(
            f"The {what} {face} does not exist; name a picture, or seed:3 for a face that the "
            "model draws."
        )
