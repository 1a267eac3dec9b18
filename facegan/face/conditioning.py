"""Face -> the arrays that a model asks for.

The one implementation behind datasets and rendering: what a network is trained on and what it is
shown later come from the same lines. A bundle carries the config as a document; a reader that does
not know its kind or version refuses it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np

from facegan.config import decode, encode, require_power_of_two, unknown_name
from facegan.errors import ConfigError, DataError
from facegan.face.identity import IdentityModel
from facegan.face.label_maps import resize_labels
from facegan.face.labels import GROUPS7, conversion_table, find_schema
from facegan.face.landmarks import resize_landmarks
from facegan.face.mask_groups import show_groups
from facegan.face.parsing import ParserConfig, make_parser
from facegan.face.raster import DrawingConfig, draw_landmarks
from facegan.image import resize

# Loads an exported bundle by its folder's name and gives an engine that runs it.
LoadEngine = Callable[[str], Any]
# What landmarks are called in datasets' records and among models' inputs: [68, 2], pixels.
LANDMARKS = "landmarks_xy_px"
# What the numbers that say who somebody is are called among models' inputs.
IDENTITY = "identity"
# What a picture is called among models' inputs that make another of it.
SOURCE = "source"
# Faces of a clip that a conditioner looks at before the first one is asked for.
FIT_FACES = 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConditioningConfig:
    """A drawing of the landmarks as the model's condition.

    Attributes:
        size: Height and width of the condition, a power of two.
        drawing: How the landmarks are drawn.
    """

    KIND: ClassVar[str] = "landmark_drawing"
    VERSION: ClassVar[int] = 1

    size: int = 256
    drawing: DrawingConfig = dataclasses.field(default_factory=DrawingConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelMapConditioningConfig:
    """A map of the face's regions as the model's condition.

    Attributes:
        size: Height and width of the map, a power of two.
        schema: Name of the label schema that the model knows.
        parser: What finds the regions in pictures without a map.
        background: (r, g, b) that the background of pictures is painted with, when training and
            when rendering; None leaves it.
        substitutes: What is shown in place of labels that the model never saw, by label.
    """

    KIND: ClassVar[str] = "label_map"
    VERSION: ClassVar[int] = 1

    size: int = 256
    schema: str = "celebamask19"
    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    background: tuple[int, int, int] | None = None
    substitutes: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        schema = find_schema(self.schema)
        for names in self.substitutes.items():
            for name in names:
                schema.index(name)
        if self.background is not None:
            require_colour("background", self.background)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PictureConditioningConfig:
    """The picture itself, for models that say something about it: face parsers.

    Attributes:
        size: Height and width of the picture, a power of two.
        schema: Name of the label schema whose ids the model gives.
    """

    KIND: ClassVar[str] = "picture"
    VERSION: ClassVar[int] = 1

    size: int = 512
    schema: str = "celebamask19"

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        find_schema(self.schema)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FewShotConditioningConfig:
    """A drawing of the landmarks, and a few pictures that say whom to paint.

    Attributes:
        size: Height and width of drawings and pictures, a power of two.
        shots: Pictures of a person in an example to learn from.
        drawing: How the landmarks are drawn.
    """

    KIND: ClassVar[str] = "few_shot"
    VERSION: ClassVar[int] = 1

    size: int = 256
    shots: int = 8
    drawing: DrawingConfig = dataclasses.field(default_factory=DrawingConfig)

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        if self.shots < 1:
            raise ConfigError(f"shots must be at least 1, got {self.shots}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DomainConditioningConfig:
    """The picture itself, for models that turn it into one of another domain.

    Attributes:
        size: Height and width of the picture, a power of two.
        domains: What the domains are called, by number; none takes those of the dataset.
        align: How a picture of a person is cut: "ffhq" as FFHQ and CelebA-HQ have their faces;
            "none" takes the centred square.
        landmarks: Whether the model is shown the landmarks, too.
    """

    KIND: ClassVar[str] = "domain_picture"
    VERSION: ClassVar[int] = 1

    size: int = 256
    domains: tuple[str, ...] = ()
    align: Literal["none", "ffhq"] = "ffhq"
    landmarks: bool = False

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        if len(set(self.domains)) != len(self.domains):
            raise ConfigError(f"domains must have different names, got {list(self.domains)}.")

    def domain_index(self, name: str) -> int:
        """The number of a domain.

        Raises:
            ConfigError: There is none of that name.
        """
        if not self.domains:
            raise ConfigError(
                "The model does not say what its domains are called; export it again."
            )
        if name not in self.domains:
            raise unknown_name("domain", name, self.domains, what="value")
        return self.domains.index(name)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LatentConditioningConfig:
    """Nothing: for models that make faces of noise.

    Attributes:
        size: Height and width of the pictures, a power of two.
        align: How the picture of a person is cut that is learnt from or made again: "ffhq" as FFHQ
            and CelebA-HQ have their faces; "none" takes the centred square.
    """

    KIND: ClassVar[str] = "latent"
    VERSION: ClassVar[int] = 1

    size: int = 256
    align: Literal["none", "ffhq"] = "ffhq"

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 8)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskConditioningConfig:
    """Masks of the face's groups of parts, the groups' colours, and who it is.

    Attributes:
        size: Height and width of the masks, a power of two.
        schema: Name of the label schema whose labels, but for the background, are the groups.
        parser: What finds the regions in pictures without a map.
        identity: Whether the model is told who it is: by dlib's descriptor.
        align: How the picture of a person is cut: "ffhq" as FFHQ and CelebA-HQ have their faces;
            "none" takes the centred square.
    """

    KIND: ClassVar[str] = "mask_identity"
    VERSION: ClassVar[int] = 1

    size: int = 256
    schema: str = GROUPS7.name
    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    identity: bool = True
    align: Literal["none", "ffhq"] = "ffhq"

    def __post_init__(self) -> None:
        require_power_of_two("size", self.size, 16)
        find_schema(self.schema)

    @property
    def num_groups(self) -> int:
        """How many groups there are, which the background is none of."""
        return find_schema(self.schema).num_labels - 1


AnyConditioning = (
    ConditioningConfig
    | LabelMapConditioningConfig
    | PictureConditioningConfig
    | FewShotConditioningConfig
    | DomainConditioningConfig
    | LatentConditioningConfig
    | MaskConditioningConfig
)

# Every kind that this version can make, by the name that documents carry.
KINDS: dict[str, type[AnyConditioning]] = {cls.KIND: cls for cls in get_args(AnyConditioning)}


def encode_conditioning(config: AnyConditioning) -> dict[str, Any]:
    """The JSON document of a conditioning: its kind, version and settings."""
    return {"kind": config.KIND, "version": config.VERSION, **encode(config)}


def decode_conditioning(document: Mapping[str, Any]) -> AnyConditioning:
    """Reads what ``encode_conditioning`` wrote.

    Raises:
        ConfigError: The kind or version is not known, or a setting is wrong.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(
            f"A conditioning must be an object with a kind, got {type(document).__name__}."
        )
    known = ", ".join(f"{name} (version {cls.VERSION})" for name, cls in KINDS.items())
    kind, version = document.get("kind"), document.get("version")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None or version != cls.VERSION:
        raise ConfigError(
            f"The conditioning {kind!r} (version {version}) is not known to this version of "
            f"facegan, which knows: {known}. Update facegan or export the model again."
        )
    return decode(cls, {k: v for k, v in document.items() if k != "version"}, "conditioning")


class Conditioner(Protocol):
    """Makes a model's inputs from one face.

    Attributes:
        config: What it was made from.
        inputs: Names of the arrays it makes.
        crop_size: Height and width of the crop in whose pixels landmarks are given, and of the
            picture where one is wanted.
        needs_image: Whether it looks at the picture, too.
    """

    config: Any
    inputs: tuple[str, ...]
    crop_size: int
    needs_image: bool

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Takes a look at a few faces of a clip before the first one is asked for.

        Args:
            images: Crops [crop_size, crop_size, 3] uint8.
            landmarks_xy_px: [68, 2] of each, crop pixels.
        """

    def __call__(
        self, landmarks_xy_px: np.ndarray, image: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Makes the inputs of a face.

        Args:
            landmarks_xy_px: [68, 2], crop pixels.
            image: The crop, [crop_size, crop_size, 3] uint8, if ``needs_image``.
        """


class LandmarkConditioner:
    """Draws the landmarks of a face.

    Call input: landmarks [68, 2] in pixels of a crop of ``config.size``.
    Call output: {"condition": [size, size, 3] uint8}.

    Example:
        >>> from facegan.face.landmarks import MEAN_SHAPE
        >>> conditioner = LandmarkConditioner(ConditioningConfig(size=64))
        >>> conditioner(16 + 32 * MEAN_SHAPE)["condition"].shape
        (64, 64, 3)
    """

    inputs: tuple[str, ...] = ("condition",)
    needs_image = False

    def __init__(self, config: ConditioningConfig | FewShotConditioningConfig) -> None:
        self.config = config
        self.crop_size = config.size

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Nothing to learn from other faces of the clip."""

    def __call__(
        self, landmarks_xy_px: np.ndarray, image: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Draws the condition."""
        return {"condition": draw_landmarks(landmarks_xy_px, self.config.size, self.config.drawing)}


class LabelMapConditioner:
    """Finds the regions of a face in its picture.

    Call input: landmarks [68, 2] and the picture, both at ``crop_size``, which is the parser's.
    Call output: {"label_map": [size, size] uint8 ids of the config's schema}.

    Args:
        config: What is made.
        load_engine: Loads the parser's bundle, where the config names one.
    """

    inputs: tuple[str, ...] = ("label_map",)
    needs_image = True

    def __init__(
        self,
        config: LabelMapConditioningConfig,
        load_engine: LoadEngine | None = None,
    ) -> None:
        self.config = config
        self._parser = make_parser(config.parser, load_engine)
        self.crop_size = max(self._parser.size, config.size)
        schema = find_schema(config.schema)
        shown = np.arange(256, dtype=np.uint8)
        for name, substitute in config.substitutes.items():
            shown[schema.index(name)] = schema.index(substitute)
        self._table = shown[conversion_table(self._parser.schema, schema)]

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Lets the parser learn the clip's colours."""
        pairs = [self._at_parser_size(*pair) for pair in zip(images, landmarks_xy_px, strict=True)]
        self._parser.fit([image for image, _ in pairs], [landmarks for _, landmarks in pairs])

    def __call__(
        self, landmarks_xy_px: np.ndarray, image: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Parses the picture."""
        if image is None:
            raise DataError("A label map is found in a picture; pass the crop with the landmarks.")
        label_map = self._table[self._parser(*self._at_parser_size(image, landmarks_xy_px))]
        return {"label_map": resize_labels(label_map, self.config.size, self.config.size)}

    def _at_parser_size(
        self, image: np.ndarray, landmarks_xy_px: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        size = self._parser.size
        if (height, width) == (size, size):
            return image, landmarks_xy_px
        landmarks = resize_landmarks(landmarks_xy_px, (height, width), (size, size))
        return resize(image, size, size), landmarks


class MaskConditioner:
    """Finds the groups of a face's parts, their colours, and who it is, in its picture.

    Call input: landmarks [68, 2] and the picture, both at ``crop_size``.
    Call output: {"masks": [size, size, G] float32, 0 or 1; "colours": [G, 3] float32 in [-1, 1],
    black for a group that is nowhere; "identity": [128] float32, where the config has it}. The
    identity is that of each picture, or after ``fit`` the mean of those it was shown.

    Args:
        config: What is made.
        load_engine: Loads the parser's bundle, where the config names one.
    """

    needs_image = True

    def __init__(
        self, config: MaskConditioningConfig, load_engine: LoadEngine | None = None
    ) -> None:
        self.config = config
        self.inputs: tuple[str, ...] = ("masks", "colours")
        if config.identity:
            self.inputs += (IDENTITY,)
        self._regions = LabelMapConditioner(
            LabelMapConditioningConfig(
                size=config.size, schema=config.schema, parser=config.parser
            ),
            load_engine,
        )
        self.crop_size = self._regions.crop_size
        self._model: IdentityModel | None = None
        self._identity: np.ndarray | None = None

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Lets the parser learn the clip's colours, and finds out who is in it."""
        self._regions.fit(images, landmarks_xy_px)
        if self.config.identity and len(images):
            pairs = zip(images, landmarks_xy_px, strict=True)
            self._identity = np.mean([self._describe(*pair) for pair in pairs], axis=0)

    def __call__(
        self, landmarks_xy_px: np.ndarray, image: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Parses the picture and describes its face."""
        label_map = self._regions(landmarks_xy_px, image)["label_map"]
        assert image is not None  # or the line above has raised
        made = show_groups(resize(image, *label_map.shape), label_map, self.config.num_groups)
        if self.config.identity:
            known = self._identity
            made[IDENTITY] = self._describe(image, landmarks_xy_px) if known is None else known
        return made

    def _describe(self, image: np.ndarray, landmarks_xy_px: np.ndarray) -> np.ndarray:
        self._model = self._model or IdentityModel()
        descriptor = self._model.describe(image, landmarks_xy_px)
        assert descriptor is not None  # it is None only where it has to find the face itself
        return descriptor


class PictureConditioner:
    """Shows a model the picture of a face, and where it is asked for its landmarks.

    Call input: landmarks [68, 2] and the picture, both at the config's ``size``.
    Call output: {"source": [size, size, 3] uint8}, and "landmarks_xy_px": [68, 2] float32.
    """

    needs_image = True

    def __init__(self, config: DomainConditioningConfig) -> None:
        self.config = config
        self.crop_size = config.size
        self.inputs: tuple[str, ...] = (SOURCE, LANDMARKS) if config.landmarks else (SOURCE,)

    def fit(self, images: Sequence[np.ndarray], landmarks_xy_px: Sequence[np.ndarray]) -> None:
        """Nothing to learn from other faces of the clip."""

    def __call__(
        self, landmarks_xy_px: np.ndarray, image: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Passes the picture on."""
        if image is None:
            raise DataError("The model repaints a picture; pass the crop with the landmarks.")
        given = {SOURCE: image, LANDMARKS: np.asarray(landmarks_xy_px, np.float32)}
        return {name: given[name] for name in self.inputs}


def make_conditioner(config: AnyConditioning, load_engine: LoadEngine | None = None) -> Conditioner:
    """Makes what fills a model's inputs from faces.

    Args:
        config: The model's conditioning.
        load_engine: Loads the bundle of a face parser, where the conditioning names one.

    Raises:
        ConfigError: The model is not shown faces in a way that can be rendered.
    """
    if isinstance(config, ConditioningConfig | FewShotConditioningConfig):
        return LandmarkConditioner(config)
    if isinstance(config, LabelMapConditioningConfig):
        return LabelMapConditioner(config, load_engine)
    if isinstance(config, DomainConditioningConfig):
        return PictureConditioner(config)
    if isinstance(config, MaskConditioningConfig):
        return MaskConditioner(config, load_engine)
    if isinstance(config, LatentConditioningConfig):
        raise ConfigError(
            "A model that makes faces of noise is shown no face and makes no face video; use "
            "tools/generate.py or tools/edit_image.py."
        )
    raise ConfigError(
        f"A model that is shown {config.KIND!r} makes no face video; a face parser is used with "
        "--parser, or looked at with tools/parse_video.py."
    )


def require_colour(name: str, colour: Sequence[int]) -> None:
    """Raises ConfigError unless a colour is three codes from 0 to 255."""
    if len(colour) != 3 or not all(0 <= code <= 255 for code in colour):
        raise ConfigError(f"{name} must be three codes from 0 to 255, got {list(colour)}.")
