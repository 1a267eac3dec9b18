"""Folders of pictures, a folder a domain: what belongs together, and one picture's work.

[train|val|test/]<domain>/.../<picture>      several domains, as StarGAN v2 wants them
[train|val|test/]<picture>                   one domain, as StyleGAN wants it
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.config import encode, require_power_of_two
from facegan.errors import ConfigError
from facegan.face.align import invert_matrix, transform_points
from facegan.face.conditioning import LabelMapConditioner, LabelMapConditioningConfig, LoadEngine
from facegan.face.labels import CELEBAMASK19
from facegan.face.landmarks import NUM_LANDMARKS, DetectorConfig, resize_landmarks
from facegan.face.parsing import ParserConfig
from facegan.image import encode_labels, encode_picture, resize
from facegan.preparation.faces import describe_landmarks
from facegan.preparation.file_names import PICTURE_ENDINGS
from facegan.preparation.items import (
    Item,
    LeftOut,
    Listing,
    Outcome,
    Rejected,
    check_shares,
    drop_unused,
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
        parser: What finds a map of the regions of each face, in CelebAMask-HQ's labels; None stores
            none. It needs a face, and so does ``identity``: pictures without one are left out.
        identity: Store each face's identity descriptor.
        min_scale: A picture is left out when its square is smaller than this share of ``size``.
        validation: Share of the pictures for validation, where the source has no split.
        test: Share of the pictures for testing, where the source has no split.
        detector: What finds the face.
    """

    KIND: ClassVar[str] = "image_folder"

    size: int = 256
    align: Align = "none"
    landmarks: bool = False
    parser: ParserConfig | None = None
    identity: bool = False
    min_scale: float = 0.5
    validation: float = 0.0
    test: float = 0.0
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        check_shares(self.validation, self.test)
        if not 0 <= self.min_scale <= 1:
            raise ConfigError(f"min_scale must be in [0, 1], got {self.min_scale}; 0 takes all.")
        if self.identity and self.detector.name != "dlib":
            raise ConfigError(
                "The identity descriptor is dlib's and wants its landmarks; use the detector dlib."
            )

    @property
    def needs_face(self) -> bool:
        """Whether pictures without a face are left out."""
        return self.align == "ffhq" or self.parser is not None or self.identity

    @property
    def has_landmarks(self) -> bool:
        """Whether records hold landmarks."""
        return self.landmarks or self.needs_face


@dataclasses.dataclass(frozen=True, slots=True)
class PictureWork:
    """A picture -> a square of fixed size.

    Attributes:
        source: Where the files are.
        config: What becomes of them.
        load_engine: Loads the parser's bundle, where the config names one.
    """

    source: Source
    config: ImageFolderConfig
    load_engine: LoadEngine | None = None

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the records' bytes."""
        facts = {"dataset": "image_folder", **encode(self.config)}
        return drop_unused(facts, parser=None, identity=False)

    def __call__(self, item: Item) -> Outcome:
        """Makes the record of one picture."""
        (file,) = item.files
        image = read_photo(self.source.read(file), file, turn_upright=True)
        counts = {f"{item.data['split']}/{item.data['domain']}": 1}
        config, regions = self.config, None
        if config.parser is not None:
            regions = _find_regions(config.size, config.parser, self.load_engine)
        square = cut_square(
            image,
            file,
            # A parser may want to see more than is stored.
            config.size if regions is None else regions.crop_size,
            align=config.align,
            detector=config.detector,
            landmarks=config.has_landmarks,
            min_side_px=config.min_scale * config.size,
        )
        landmarks = square.landmarks_xy_px
        if landmarks is None:
            if config.needs_face:
                raise Rejected("no_face", f"No face is found in {file}, but it is to be described.")
            if config.landmarks:
                counts["no_face"] = 1
            landmarks = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
        shown_hw, size_hw = square.image.shape[:2], (config.size, config.size)
        record: dict[str, Any] = {
            "image": encode_picture(resize(square.image, *size_hw)),
            "domain": item.data["domain"],
            "file": file,
        }
        if config.has_landmarks:
            same = shown_hw == size_hw
            record["landmarks_xy_px"] = (
                landmarks if same else resize_landmarks(landmarks, shown_hw, size_hw)
            )
        if regions is not None:
            record["label_map"] = encode_labels(regions(landmarks, square.image)["label_map"])
        if config.identity:
            # As sharp as the picture is.
            points = transform_points(invert_matrix(square.matrix), landmarks)
            record["descriptor"] = describe_landmarks(image, points)
        return Outcome(((item.key, record),), counts=counts)


@functools.cache
def _find_regions(
    size_px: int, parser: ParserConfig, load_engine: LoadEngine | None
) -> LabelMapConditioner:
    config = LabelMapConditioningConfig(size=size_px, schema=CELEBAMASK19.name, parser=parser)
    return LabelMapConditioner(config, load_engine)


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
    schema = {} if config.parser is None else {"schema": CELEBAMASK19.name}
    return Listing(
        splits,
        [*left_out, *source.refused],
        labels={"domain": domains},
        facts={"domains": domains, "pictures_listed": by_domain, **schema},
    )
