"""CelebAMask-HQ as its authors ship it: what belongs together, and one picture's work.

    CelebA-HQ-img/<k>.jpg                                   1024 x 1024
    CelebAMask-HQ-mask-anno/<k // 2000>/<k as 00012>_<part>.png   512 x 512, black and white
    CelebA-HQ-to-CelebA-mapping.txt                         which split a picture belongs to
    CelebAMask-HQ-attribute-anno.txt, CelebAMask-HQ-pose-anno.txt

Reference: Lee et al., "MaskGAN: Towards Diverse and Interactive Facial Image Manipulation",
CVPR 2020; the split is that of CelebA, by each picture's number there.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from facegan.config import encode, require_power_of_two
from facegan.errors import ConfigError, DataError
from facegan.face.label_maps import merge_parts, resize_labels
from facegan.face.labels import CELEBAMASK19
from facegan.face.landmarks import NUM_LANDMARKS, DetectorConfig, resize_landmarks
from facegan.image import encode_labels, encode_picture, resize
from facegan.preparation.faces import describe_face, find_faces, require_one_face
from facegan.preparation.items import Item, LeftOut, Listing, Outcome, Rejected, drop_unused
from facegan.preparation.pictures import probe_picture, read_mask, read_photo
from facegan.preparation.sources import Source, find_root

IMAGES = "CelebA-HQ-img"
_MASKS = "CelebAMask-HQ-mask-anno"
_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
_ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
_POSES = "CelebAMask-HQ-pose-anno.txt"
NUM_ATTRIBUTES = 40

# Pictures of CelebA from these numbers on are its validation and test splits.
_FIRST_VALIDATION, _FIRST_TEST = 162771, 182638

_SIDE_PX = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CelebAMaskHQConfig:
    """What becomes of the pictures.

    Attributes:
        size: Height and width of picture and label map: 256, 512, or 1024 as the pictures are.
        faces: Store each face's landmarks and identity descriptor.
        one_face: Leave pictures out in which no face is found, or several; for ``faces`` only.
        detector: What finds the face.
    """

    KIND: ClassVar[str] = "celebamask_hq"

    size: int = 256
    faces: bool = False
    one_face: bool = False
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16, 1024)
        if self.faces and self.detector.name != "dlib":
            raise ConfigError(
                "The identity descriptor is dlib's and wants its landmarks; use the detector dlib."
            )
        if self.one_face and not self.faces:
            raise ConfigError("one_face needs faces, which is off; set faces=true, too.")


@dataclasses.dataclass(frozen=True, slots=True)
class MaskedPictureWork:
    """A picture and its part masks -> picture, label map, attributes, and perhaps the face.

    Attributes:
        source: Where the files are.
        config: What becomes of them.
    """

    source: Source
    config: CelebAMaskHQConfig

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the records' bytes."""
        facts = {"dataset": "celebamask_hq", **encode(self.config)}
        return drop_unused(facts, one_face=False)

    def __call__(self, item: Item) -> Outcome:
        """Makes the record of one picture."""
        name = item.files[0]
        data = self.source.read(name)
        image = read_photo(data, name, turn_upright=False)
        height, width = image.shape[:2]
        if height != width:
            raise Rejected("wrong_shape", f"{name} is {width}x{height}, not square.")
        masks = {part: self._read_mask(file) for part, file in item.data["masks"].items()}
        shapes = {mask.shape for mask in masks.values()}
        if len(shapes) != 1 or (shape := shapes.pop())[0] != shape[1]:
            raise Rejected(
                "wrong_shape", f"The masks of {name} are not all square and of one size."
            )
        label_map = merge_parts(masks, CELEBAMASK19)
        record = {
            "image": self._encode(data, image, name),
            "label_map": encode_labels(
                resize_labels(label_map, self.config.size, self.config.size)
            ),
            "index": item.data["index"],
            "celeba_index": item.data["celeba_index"],
            "attributes": np.array(item.data["attributes"], bool),
            "pose": np.array(item.data["pose"], np.float32),
        }
        counts = {
            f"missing_part:{part}": 1 for part in ("skin", "nose", "hair") if part not in masks
        }
        if self.config.faces:
            record.update(self._find_face(image, name, counts))
        return Outcome(((item.key, record),), counts=counts)

    def _read_mask(self, file: str) -> np.ndarray:
        return read_mask(self.source.read(file), file)

    def _encode(self, data: bytes, image: np.ndarray, name: str) -> bytes:
        if self.config.size == image.shape[0] and probe_picture(data, name).format == "JPEG":
            return data  # as it is: no second loss, a tenth of the bytes
        return encode_picture(resize(image, self.config.size, self.config.size))

    def _find_face(
        self, image: np.ndarray, name: str, counts: dict[str, int]
    ) -> dict[str, np.ndarray | bool]:
        faces = find_faces(image, self.config.detector)
        if self.config.one_face:
            require_one_face(faces, name)
        face = faces[0] if faces else None
        height, width = image.shape[:2]
        if face is None:
            counts["no_face"] = 1
            return {
                "has_face": False,
                "landmarks_xy_px": np.full((NUM_LANDMARKS, 2), np.nan, np.float32),
                "descriptor": np.full(128, np.nan, np.float32),
            }
        return {
            "has_face": True,
            "landmarks_xy_px": resize_landmarks(
                face.landmarks_xy_px, (height, width), (self.config.size, self.config.size)
            ),
            "descriptor": describe_face(image, face),
        }


def list_pictures(source: Source) -> Listing:
    """Finds the pictures with masks, by CelebA's split.

    Raises:
        DataError: A folder or an annotation file is missing or cannot be understood.
    """
    root = find_root(source, IMAGES)
    mapping = _read_mapping(source, f"{root}{_MAPPING}")
    attributes, names = _read_attributes(source, f"{root}{_ATTRIBUTES}")
    poses, _ = _read_table(source, f"{root}{_POSES}", 3)
    left_out: list[LeftOut] = []
    masks = _list_masks(source, f"{root}{_MASKS}", left_out)
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    pictures = []
    for entry in source.list_files(f"{root}{IMAGES}"):
        found = re.fullmatch(r"(\d+)\.(jpg|jpeg|png)", entry.name.rpartition("/")[2], re.IGNORECASE)
        if found is None:
            left_out.append(LeftOut(entry.name, "bad_name", "Its name is no number with .jpg."))
        else:
            pictures.append((int(found.group(1)), entry))
    for index, entry in sorted(pictures, key=lambda pair: pair[0]):
        parts = masks.pop(index, {})
        picture = f"{index}.jpg"
        lacking = [
            what
            for what, there in (
                ("masks", parts),
                (_MAPPING, index in mapping),
                (_ATTRIBUTES, picture in attributes),
                (_POSES, picture in poses),
            )
            if not there
        ]
        if lacking:
            detail = f"It has nothing in {', '.join(lacking)}."
            left_out.append(LeftOut(entry.name, "missing", detail))
            continue
        number = mapping[index]
        late = "test" if number >= _FIRST_TEST else "validation"
        splits["train" if number < _FIRST_VALIDATION else late].append(
            Item(
                key=f"{index:05d}",
                files=(entry.name, *(file for file, _ in parts.values())),
                sizes=(entry.size_bytes, *(size for _, size in parts.values())),
                data={
                    "index": index,
                    "celeba_index": number,
                    "masks": {part: file for part, (file, _) in parts.items()},
                    "attributes": [value > 0 for value in attributes[picture]],
                    "pose": poses[picture],
                },
            )
        )
    for index, parts in masks.items():
        for file, _ in parts.values():
            left_out.append(LeftOut(file, "no_picture", f"There is no picture {index}.jpg."))
    return Listing(
        splits,
        [*left_out, *source.refused],
        facts={"schema": CELEBAMASK19.name, "attributes": names},
    )


def _list_masks(
    source: Source, folder: str, left_out: list[LeftOut]
) -> dict[int, dict[str, tuple[str, int]]]:
    """Mask files and their sizes by picture and part."""
    masks: dict[int, dict[str, tuple[str, int]]] = {}
    for entry in source.list_files(folder):
        found = re.fullmatch(r"(\d{5})_(\w+)\.png", entry.name.rpartition("/")[2])
        part = found.group(2) if found else ""
        if found is None or part not in CELEBAMASK19.labels[1:]:
            detail = "Its name is not five digits, an underscore and a part of the face."
            left_out.append(LeftOut(entry.name, "bad_name", detail))
        elif part in (mine := masks.setdefault(int(found.group(1)), {})):
            detail = f"{mine[part][0]} is a mask of the same part."
            left_out.append(LeftOut(entry.name, "duplicate", detail))
        else:
            mine[part] = (entry.name, entry.size_bytes)
    return masks


def _read_lines(source: Source, name: str) -> list[str]:
    try:
        return source.read(name).decode("utf-8-sig").splitlines()
    except Rejected as error:
        raise DataError(
            f"{source.describe()}: the file {name} cannot be read: {error} It belongs to the "
            "dataset; get it from where the pictures came from."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source.describe()}: {name} is not a text file.") from error


def _read_mapping(source: Source, name: str) -> dict[int, int]:
    """Number of the picture in CelebA, by its number here."""
    mapping = {}
    for line in _read_lines(source, name):
        fields = line.split()
        if len(fields) >= 2 and fields[0].isdecimal() and fields[1].isdecimal():
            mapping[int(fields[0])] = int(fields[1])
    if not mapping:
        raise DataError(
            f"{source.describe()}: {name} holds no line with two numbers; it must have the columns "
            "idx, orig_idx and orig_file."
        )
    return mapping


def _read_attributes(source: Source, name: str) -> tuple[dict[str, list[float]], list[str]]:
    rows, header = _read_table(source, name, NUM_ATTRIBUTES)
    if len(header) != NUM_ATTRIBUTES:
        raise DataError(
            f"{source.describe()}: {name} must name {NUM_ATTRIBUTES} attributes before the first "
            f"picture, got {len(header)}."
        )
    return rows, header


def _read_table(
    source: Source, name: str, columns: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Numbers by picture, and the words of the line before the first picture."""
    rows: dict[str, list[float]] = {}
    header: list[str] = []
    for number, line in enumerate(_read_lines(source, name), start=1):
        fields = line.split()
        if fields and re.fullmatch(r"\d+\.jpg", fields[0]):
            try:
                values = [float(field) for field in fields[1:]]
            except ValueError:
                values = []
            if len(values) != columns:
                raise DataError(
                    f"{source.describe()}: line {number} of {name} must hold a picture and "
                    f"{columns} numbers, got {line[:80]!r}."
                )
            rows[fields[0]] = values
        elif fields and not rows:
            header = fields
    if not rows:
        raise DataError(f"{source.describe()}: {name} names no picture such as 0.jpg.")
    return rows, header
