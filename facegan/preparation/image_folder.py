"""Folders of pictures, a folder a domain: what belongs together, and one picture's work.

[train|val|test/]<domain>/.../<picture>      several domains, as StarGAN v2 wants them
[train|val|test/]<picture>                   one domain, as StyleGAN wants it
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.config import encode, require_power_of_two
from facegan.errors import ConfigError
from facegan.face.landmarks import NUM_LANDMARKS, DetectorConfig
from facegan.image import encode_picture
from facegan.preparation.file_names import PICTURE_ENDINGS
from facegan.preparation.items import (
    Item,
    LeftOut,
    Listing,
    Outcome,
    check_shares,
    split_by_name,
)
from facegan.preparation.pictures import read_photo
from facegan.preparation.sources import Source
from facegan.preparation.squares import Align, cut_square

_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
ONE_DOMAIN = "all"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolderConfig:
    """What becomes of the pictures.

    Attributes:
        size: Height and width of the stored pictures.
        align: "ffhq" turns and cuts every picture to the square around its largest face that FFHQ
            and CelebA-HQ models are trained on; "none" takes the centred square.
        landmarks: Store 68 landmarks a picture also where ``align`` does not need them.
        min_scale: A picture is left out when its square is smaller than this share of ``size``.
        validation: Share of the pictures for validation, where the source has no split.
        test: Share of the pictures for testing, where the source has no split.
        detector: What finds the face.
    """

    KIND: ClassVar[str] = "image_folder"

    size: int = 256
    align: Align = "none"
    landmarks: bool = False
    min_scale: float = 0.5
    validation: float = 0.0
    test: float = 0.0
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        check_shares(self.validation, self.test)
        if not 0 <= self.min_scale <= 1:
            raise ConfigError(f"min_scale must be in [0, 1], got {self.min_scale}; 0 takes all.")

    @property
    def has_landmarks(self) -> bool:
        """Whether records hold landmarks."""
        return self.landmarks or self.align == "ffhq"


@dataclasses.dataclass(frozen=True, slots=True)
class PictureWork:
    """A picture -> a square of fixed size.

    Attributes:
        source: Where the files are.
        config: What becomes of them.
    """

    source: Source
    config: ImageFolderConfig

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the records' bytes."""
        return {"dataset": "image_folder", **encode(self.config)}

    def __call__(self, item: Item) -> Outcome:
        """Makes the record of one picture."""
        (file,) = item.files
        image = read_photo(self.source.read(file), file, turn_upright=True)
        counts = {f"{item.data['split']}/{item.data['domain']}": 1}
        config = self.config
        square = cut_square(
            image,
            file,
            config.size,
            align=config.align,
            detector=config.detector,
            landmarks=config.landmarks,
            min_side_px=config.min_scale * config.size,
        )
        landmarks = square.landmarks_xy_px
        if landmarks is None and self.config.landmarks:
            counts["no_face"] = 1
        record: dict[str, Any] = {
            "image": encode_picture(square.image),
            "domain": item.data["domain"],
            "file": file,
        }
        if self.config.has_landmarks:
            nothing = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
            record["landmarks_xy_px"] = nothing if landmarks is None else landmarks
        return Outcome(((item.key, record),), counts=counts)


def list_pictures(source: Source, config: ImageFolderConfig) -> Listing:
    """Finds the pictures, by split and domain."""
    left_out: list[LeftOut] = []
    found = []
    for entry in source.list_files():
        if not entry.name.lower().endswith(PICTURE_ENDINGS):
            detail = f"Its ending is none of {', '.join(PICTURE_ENDINGS)}."
            left_out.append(LeftOut(entry.name, "no_picture", detail))
            continue
        folders = entry.name.split("/")[:-1]
        split = _SPLIT_FOLDERS.get(folders[0]) if folders else None
        below = folders[1:] if split else folders
        found.append((entry, split, below[0] if below else ""))
    if any(split for _, split, _ in found):
        # A folder called train is a split only where every picture is below such a folder.
        for entry, split, _ in found:
            if split is None:
                detail = "It stands beside the folders train, val and test, not in one of them."
                left_out.append(LeftOut(entry.name, "wrong_place", detail))
        found = [row for row in found if row[1]]
    if any(domain for _, _, domain in found):
        for entry, _, domain in found:
            if not domain:
                detail = "It stands beside the domains' folders, not in one of them."
                left_out.append(LeftOut(entry.name, "wrong_place", detail))
        found = [row for row in found if row[2]]
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for entry, split, domain in found:
        chosen = split or split_by_name(entry.name, config.validation, config.test)
        splits[chosen].append(
            Item(
                key=entry.name,
                files=(entry.name,),
                sizes=(entry.size_bytes,),
                data={"split": chosen, "domain": domain or ONE_DOMAIN},
            )
        )
    domains = sorted({domain or ONE_DOMAIN for _, _, domain in found})
    by_domain = {
        split: {domain: sum(item.data["domain"] == domain for item in items) for domain in domains}
        for split, items in splits.items()
    }
    return Listing(
        splits,
        [*left_out, *source.refused],
        labels={"domain": domains},
        facts={"domains": domains, "pictures_listed": by_domain},
    )
