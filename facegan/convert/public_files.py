"""What is known of the public files of weights: how to tell that a file is one, and its licence.

A field is None where no page was found that tells it. Where a licence is given, it is that of the
project which publishes the weights; what they were trained on may bind their use further.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

from facegan.bundle import hash_file
from facegan.errors import CheckpointError

_WHOLE_HASH = 64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublicFile:
    """A public file of weights.

    Attributes:
        name: As it is published.
        source: What ``tools/convert_weights.py --from`` calls it; None if nothing reads it.
        preset: The preset whose nets it fills, if any.
        gives: What is in it.
        num_bytes: Its size.
        sha256: Its hash in hexadecimal digits, or as many of the first as its name has.
        licence: Of the weights.
        non_commercial: Whether the licence, or that of the data behind the weights, is for
            non-commercial use only.
        origin: The project that publishes it.
    """

    name: str
    source: str | None
    preset: str | None = None
    gives: str
    num_bytes: int | None = None
    sha256: str | None = None
    licence: str | None
    non_commercial: bool
    origin: str


_TORCHVISION = "torchvision"
_OXFORD = "Visual Geometry Group, University of Oxford"
_STARGAN_V2 = "clovaai/stargan-v2"
_SPADE = "NVlabs/SPADE"
_PIX2PIX = "junyanz/pytorch-CycleGAN-and-pix2pix"
_ADA = "NVlabs/stylegan2-ada-pytorch"
_NGC = "StyleGAN2 in NVIDIA's NGC catalogue"
_NVIDIA = "NVIDIA Source Code License for StyleGAN2-ADA"
_OF_FACES = "Creative Commons, for non-commercial research"
_MASKS = "trained on CelebAMask-HQ, which is for non-commercial research only"

PUBLIC_FILES = (
    PublicFile(
        name="vgg19-dcbb9e9d.pth",
        source="vgg19",
        gives="VGG19 for pictures in torchvision's preparation",
        num_bytes=574_673_361,
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        licence="BSD 3-Clause",
        non_commercial=False,
        origin=_TORCHVISION,
    ),
    PublicFile(
        name="vgg19-d01eb7cb.pth",
        source="vgg19",
        gives="VGG19 with the authors' weights, for pictures in Caffe's preparation",
        sha256="d01eb7cb",
        licence=None,
        non_commercial=False,
        origin="Justin Johnson, from the authors' file for Caffe",
    ),
    PublicFile(
        name="VGG_ILSVRC_19_layers.caffemodel",
        source="vgg19",
        gives="VGG19 with the authors' weights",
        licence=None,
        non_commercial=False,
        origin=_OXFORD,
    ),
    PublicFile(
        name="VGG_FACE.caffemodel",
        source="vgg_face",
        gives="VGG-Face, for blue first",
        licence=_OF_FACES,
        non_commercial=True,
        origin=_OXFORD,
    ),
    PublicFile(
        name="vgg_face_dag.pth",
        source="vgg_face",
        gives="VGG-Face, for red first",
        licence=_OF_FACES,
        non_commercial=True,
        origin="Samuel Albanie's models for PyTorch, from the authors' file for MatConvNet",
    ),
    PublicFile(
        name="alexnet-owt-7be5be79.pth",
        source="lpips",
        gives="AlexNet, on which LPIPS stands",
        num_bytes=244_408_911,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        licence="BSD 3-Clause",
        non_commercial=False,
        origin=_TORCHVISION,
    ),
    PublicFile(
        name="alex.pth",
        source="lpips",
        gives="linear weights of LPIPS v0.1 for AlexNet",
        num_bytes=6009,
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        licence="BSD 2-Clause",
        non_commercial=False,
        origin="richzhang/PerceptualSimilarity",
    ),
    PublicFile(
        name="79999_iter.pth",
        source="bisenet",
        preset="bisenet_celebamask_512",
        gives="BiSeNet for 19 labels of faces",
        num_bytes=53_289_463,
        sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        licence=f"MIT; {_MASKS}",
        non_commercial=True,
        origin="zllrunning/face-parsing.PyTorch",
    ),
    PublicFile(
        name="model.pth",
        source="parser_unet",
        preset="parser_unet_celebamask_512",
        gives="U-Net for 19 labels of faces",
        licence=f"none told; {_MASKS}",
        non_commercial=True,
        origin="switchablenorms/CelebAMask-HQ, face_parsing",
    ),
    PublicFile(
        name="100000_nets_ema.ckpt",
        source="stargan_v2",
        preset="stargan_v2_celebahq_256",
        gives="generator, mapping network, style encoder and FAN for women and men, of celeba_hq",
        licence="Creative Commons BY-NC 4.0",
        non_commercial=True,
        origin=_STARGAN_V2,
    ),
    PublicFile(
        name="100000_nets_ema.ckpt",
        source="stargan_v2",
        preset="stargan_v2_afhq_256",
        gives="generator, mapping network and style encoder for animals, of afhq",
        licence="Creative Commons BY-NC 4.0",
        non_commercial=True,
        origin=_STARGAN_V2,
    ),
    PublicFile(
        name="wing.ckpt",
        source="fan",
        gives="FAN for 98 landmarks",
        licence="Creative Commons BY-NC 4.0",
        non_commercial=True,
        origin=_STARGAN_V2,
    ),
    PublicFile(
        name="celeba_lm_mean.npz",
        source=None,
        gives="mean landmarks, to which StarGAN v2's own tool aligns faces",
        licence="Creative Commons BY-NC 4.0",
        non_commercial=True,
        origin=_STARGAN_V2,
    ),
    # None is published for CelebAMask-HQ: a net of these paints no faces by their labels.
    *(
        PublicFile(
            name="latest_net_G.pth",
            source="spade",
            gives=f"SPADE's generator for {dataset}",
            licence="Creative Commons BY-NC-SA 4.0",
            non_commercial=True,
            origin=_SPADE,
        )
        for dataset in ("COCO-Stuff", "ADE20K", "Cityscapes")
    ),
    *(
        PublicFile(
            name=f"{name}.pth",
            source="pix2pix",
            preset="pix2pix_256",
            gives=f"U-Net of pix2pix, {name}",
            licence="BSD",
            non_commercial=False,
            origin=_PIX2PIX,
        )
        for name in ("edges2shoes", "facades_label2photo", "sat2map", "map2sat", "day2night")
    ),
    PublicFile(
        name="ffhq.pkl",
        source="stylegan2",
        preset="stylegan2_paper1024",
        gives="StyleGAN2 for faces of FFHQ, 1024 px",
        num_bytes=381_624_121,
        sha256="a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c",
        licence=_NVIDIA,
        non_commercial=True,
        origin=_ADA,
    ),
    PublicFile(
        name="metfaces.pkl",
        source="stylegan2",
        preset="stylegan2_paper1024",
        gives="StyleGAN2 for faces in paintings, 1024 px",
        sha256="880a460d011a3696c088f58f5844b44271b17903963f2671f96f72dfbce5f76f",
        licence=_NVIDIA,
        non_commercial=True,
        origin=_ADA,
    ),
    PublicFile(
        name="ffhq-res256-mirror-paper256-noaug.pkl",
        source="stylegan2",
        preset="stylegan2_paper256",
        gives="StyleGAN2 for faces of FFHQ, 256 px",
        licence=_NVIDIA,
        non_commercial=True,
        origin=_ADA,
    ),
    PublicFile(
        name="stylegan2-ffhq-256x256.pkl",
        source="stylegan2",
        preset="stylegan2_paper256",
        gives="StyleGAN2 for faces of FFHQ, 256 px",
        licence=_NVIDIA,
        non_commercial=True,
        origin=_NGC,
    ),
    PublicFile(
        name="stylegan2-ffhq-512x512.pkl",
        source="stylegan2",
        preset="stylegan2_paper512",
        gives="StyleGAN2 for faces of FFHQ, 512 px",
        sha256="d2b1c92f41ce8a64c55f7a75ef06c4c0eef9e17b1eb29aae8c10fb37b3e60478",
        licence=_NVIDIA,
        non_commercial=True,
        origin=_NGC,
    ),
)


def identify(path: str | os.PathLike[str], *, source: str | None = None) -> PublicFile | None:
    """Tells which public file a file is.

    A file whose size and hash are known is found under any name. Of the others only the name is
    known, which may be as common as ``model.pth``: they are found if ``source`` is given and no
    other of its files has that name.

    Args:
        path: The file.
        source: What it is taken for, as in ``PublicFile.source``.

    Returns:
        None if it is none, or the name alone does not tell which.

    Raises:
        CheckpointError: It cannot be read.
    """
    return _identify(_Seen(path), source)


def _identify(seen: _Seen, source: str | None) -> PublicFile | None:
    of_source = list(_of_source(source))
    for known in of_source:
        if _is_whole(known) and seen.agrees(known):
            return known
    named = [
        known
        for known in of_source
        if known.name == seen.name and not _is_whole(known) and seen.agrees(known)
    ]
    if source is None:
        named = [known for known in named if known.sha256 is not None]
    return named[0] if len(named) == 1 else None


def find_mismatch(path: str | os.PathLike[str], *, source: str | None = None) -> str:
    """Tells why a file is not the public one whose name it has.

    Args:
        path: The file.
        source: As in ``identify``.

    Returns:
        A sentence; "" if it is the file, or none of that name is known by its size or hash.

    Raises:
        CheckpointError: It cannot be read.
    """
    return _find_mismatch(_Seen(path), source)


def _find_mismatch(seen: _Seen, source: str | None) -> str:
    named = [known for known in _of_source(source) if known.name == seen.name]
    if not named or any(map(seen.agrees, named)):
        return ""
    known = named[0]
    if known.num_bytes is not None and seen.num_bytes != known.num_bytes:
        found, wanted = f"{seen.num_bytes} bytes", f"{known.num_bytes}"
    else:
        found, wanted = f"the SHA-256 {seen.sha256}", str(known.sha256)
    return (
        f"{seen.path} has the name of a file of {known.origin}, but {found}, not {wanted}: it is "
        "damaged, or another."
    )


def tell_licence(path: str | os.PathLike[str], *, source: str) -> str:
    """A sentence on the licence of a file's weights, for whoever converts it.

    Args:
        path: The file.
        source: What it is taken for, as in ``PublicFile.source``.

    Raises:
        CheckpointError: It cannot be read.
    """
    return _tell_licence(_Seen(path), source)


def _tell_licence(seen: _Seen, source: str) -> str:
    known = _identify(seen, source)
    if known is not None:
        return f"{known.name} of {known.origin}: {_licence(known)}."
    told = {f"{one.origin}: {_licence(one)}": None for one in _of_source(source)}
    if not told:
        return "Nothing is known of the licence of these weights."
    return f"If it is public: {'; '.join(told)}."


def describe_file(path: str | os.PathLike[str], *, source: str) -> tuple[str, str]:
    """Both ``tell_licence`` and ``find_mismatch``, of which each may have to hash the file."""
    seen = _Seen(path)
    return _tell_licence(seen, source), _find_mismatch(seen, source)


def _licence(known: PublicFile) -> str:
    licence = known.licence or "licence not known"
    if known.non_commercial and "non-commercial" not in licence:
        return f"{licence}, for non-commercial use"
    return licence


def _of_source(source: str | None) -> Iterator[PublicFile]:
    return (known for known in PUBLIC_FILES if source is None or known.source == source)


def _is_whole(known: PublicFile) -> bool:
    return known.sha256 is not None and len(known.sha256) == _WHOLE_HASH


class _Seen:
    """A file's name, size and, when it is asked for, its hash."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        self._sha256: str | None = None
        try:
            self.num_bytes = os.path.getsize(path)
        except OSError as error:
            raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error

    @property
    def name(self) -> str:
        return pathlib.Path(self.path).name

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            try:
                self._sha256 = hash_file(self.path)
            except OSError as error:
                raise CheckpointError(
                    f"Cannot read {self.path}: {error.strerror or error}."
                ) from error
        return self._sha256

    def agrees(self, known: PublicFile) -> bool:
        """Whether nothing that is known of a public file speaks against this one.

        The hash is taken only where the size agrees, or else, if that is not known, the name.
        """
        if known.num_bytes is not None and known.num_bytes != self.num_bytes:
            return False
        if known.sha256 is None:
            return known.name == self.name
        if known.num_bytes is None and known.name != self.name:
            return False
        return self.sha256.startswith(known.sha256)
