"""Compares a written bundle with the model it was made from, in numbers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import (
    DESCRIBE,
    ENCODED,
    ENCODED_JPEG,
    MANIFEST_BYTES,
    QUERY,
    Manifest,
    TensorSpec,
    decode_description,
    encode_description,
    read_manifest,
)
from facegan.errors import BundleError
from facegan.export import encoded
from facegan.export.random_inputs import Arrays, sample_inputs
from facegan.export.real_inputs import real_inputs
from facegan.export.signatures import PORTABLE

# Greatest accepted difference on outputs in [-1, 1], by the type the network computes in. float32:
# the graph optimizer fuses and reorders sums, 1e-6 is usual. The 16-bit types keep 8 and 11 bits.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

# Greatest accepted share of ids that differ, likewise.
_ID_SHARE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What a comparison found.

    Args:
        max_difference: Greatest absolute difference of the float signatures from the model, on
            random input.
        real_max_difference: The same on the embedded portraits by way of the bundle's own
            conditioning; None where they are not installed.
        max_code_difference: Greatest difference of the uint8 and encoded signatures from the
            rounded model output, in codes 0..255; 0 where no picture comes out.
        num_examples: How many examples were compared.
    """

    max_difference: float
    real_max_difference: float | None
    max_code_difference: int
    num_examples: int


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Inputs to compare on, and whether they are real ones."""

    inputs: Arrays
    is_real: bool


def make_trials(manifest: Manifest, batch_sizes: Sequence[int] = (1, 2)) -> Iterator[Trial]:
    """Random inputs of several batch sizes, then real ones where the portraits are installed.

    Where height and width are free, the random inputs have different ones.
    """
    size, multiple = manifest.image_size, manifest.size_multiple
    smaller = max(multiple, size // 2 // multiple * multiple)
    sizes = ((size, size), (smaller, size + multiple))
    for seed, batch_size in enumerate(batch_sizes):
        free_hw = sizes[seed % 2]
        yield Trial(sample_inputs(manifest.inputs, batch_size, free_hw=free_hw, seed=seed), False)
    real = real_inputs(manifest.inputs, manifest.conditioning, free_hw=(size, size))
    if real is not None:
        yield Trial(real, True)


def verify_bundle(
    bundle_dir: str | os.PathLike[str],
    reference: Callable[[Mapping[str, np.ndarray]], Arrays],
    *,
    batch_sizes: Sequence[int] = (1, 2),
    tolerance: float | None = None,
) -> VerifyReport:
    """Runs the signatures of a bundle, but for its methods, and compares them with a reference.

    Args:
        bundle_dir: The bundle; its manifest says which tensors to feed.
        reference: Computes the expected float outputs from float inputs.
        batch_sizes: Batches to try; two sizes show that the batch axis is free.
        tolerance: Greatest accepted absolute difference, None for the default of the precision.

    Raises:
        BundleError: The SavedModel cannot be loaded or run, an output has another shape or is not
            finite, or differs by more than the tolerance, or it describes itself as another.
    """
    manifest = read_manifest(bundle_dir, verify=True)
    limit = _TOLERANCE[manifest.precision] if tolerance is None else tolerance
    bundle = LoadedBundle(bundle_dir)
    _check_description(bundle, manifest, bundle_dir)
    worst: dict[bool, float] = {}
    worst_code, count = 0, 0
    for index, trial in enumerate(make_trials(manifest, batch_sizes)):
        expected = reference(trial.inputs)
        for name in ("serving_default", PORTABLE):
            if name in manifest.signatures:
                found = max_difference(
                    expected, bundle.run(name, trial.inputs), manifest, bundle_dir
                )
                worst[trial.is_real] = max(worst.get(trial.is_real, 0.0), found)
        outputs = [_run_codes(bundle, manifest, trial.inputs)]
        if index == 0 or trial.is_real:
            outputs += _run_encoded(bundle, manifest, trial.inputs)
        for codes in outputs:
            found_code = _code_difference(expected, codes, manifest, bundle_dir)
            worst_code = max(worst_code, found_code)
        count += len(next(iter(trial.inputs.values())))
    # One code is 2/255; rounding alone may move a value that sits between two codes by one.
    code_limit = int(np.ceil(limit * 127.5)) if limit > 0 else 0
    highest = max(worst.values())
    if highest > limit or worst_code > code_limit:
        raise BundleError(
            f"The exported model {bundle_dir} differs from the one it was made from by "
            f"{highest:.3g} ({worst_code} codes of 255); at most {limit:.3g} ({code_limit}) is "
            "accepted. Export in float32, or raise the tolerance if the type is meant to be coarse."
        )
    return VerifyReport(
        max_difference=worst.get(False, 0.0),
        real_max_difference=worst.get(True),
        max_code_difference=worst_code,
        num_examples=count,
    )


def verify_methods(
    bundle_dir: str | os.PathLike[str],
    reference: Callable[[str, Mapping[str, np.ndarray]], Arrays],
) -> float | None:
    """Runs each method of a bundle and compares it with a reference, relative to its outputs' size.

    Args:
        bundle_dir: The bundle.
        reference: Computes what a method, by name, makes of float inputs.

    Returns:
        The greatest difference, as a share; None where there is no method.

    Raises:
        BundleError: A method cannot be run or gives something else.
    """
    manifest = read_manifest(bundle_dir)
    if not manifest.methods:
        return None
    bundle, limit = LoadedBundle(bundle_dir), _TOLERANCE[manifest.precision]
    highest = 0.0
    for name, method in manifest.methods.items():
        free_hw = (manifest.image_size, manifest.image_size)
        drawn = sample_inputs(method.inputs, 2, free_size=3, free_hw=free_hw)
        real = real_inputs(method.inputs, manifest.conditioning, free_hw=free_hw)
        for inputs in (drawn,) if real is None else (drawn, real):
            expected, got = reference(name, inputs), bundle.run(name, inputs)
            for output, value in expected.items():
                size = max(1.0, float(np.abs(value).max(initial=0.0)))
                worst = float(np.abs(value - got[output]).max(initial=0.0)) / size
                if not worst <= limit:
                    raise BundleError(
                        f"The signature {name!r} of {bundle_dir} differs from the model by "
                        f"{worst:.3g} of its output's size; at most {limit:.3g} is accepted."
                    )
                highest = max(highest, worst)
    return highest


def max_difference(
    expected: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    manifest: Manifest,
    what: str | os.PathLike[str],
) -> float:
    """Greatest absolute difference over all outputs of a manifest.

    Raises:
        BundleError: An output has another shape or holds a value that is not finite, or too many of
            its ids differ.
    """
    worst = 0.0
    for spec in manifest.outputs:
        a, b = np.asarray(expected[spec.name]), np.asarray(got[spec.name])
        if spec.dtype != "float32":
            _compare_ids(a, b, spec.name, manifest.precision, what)
            continue
        if a.shape != b.shape:
            raise BundleError(
                f"The output {spec.name!r} of {what} has the shape {b.shape}, expected {a.shape}."
            )
        if not np.isfinite(b).all():
            raise BundleError(
                f"The output {spec.name!r} of {what} holds values that are not finite; the "
                "trained weights are broken, take an earlier checkpoint."
            )
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max(initial=0.0)))
    return worst


def _compare_ids(
    expected: np.ndarray, got: np.ndarray, name: str, precision: str, what: Any
) -> None:
    """Ids jump where two scores are nearly equal, so it is their number that tells."""
    if expected.shape != got.shape:
        raise BundleError(
            f"The output {name!r} of {what} has the shape {got.shape}, expected {expected.shape}."
        )
    share, limit = float(np.mean(expected != got)), _ID_SHARE[precision]
    if share > limit:
        raise BundleError(
            f"{share:.2%} of the ids of the output {name!r} of {what} differ from those of the "
            f"model; at most {limit:.2%} are accepted. Export in float32."
        )


def _code_difference(
    expected: Arrays, codes: Mapping[str, np.ndarray], manifest: Manifest, what: Any
) -> int:
    """Greatest difference of pictures in codes; ids are checked by their share."""
    worst = 0
    for spec in manifest.outputs:
        if spec.is_image:
            wanted = image_lib.to_uint8(expected[spec.name]).astype(np.int32)
            if wanted.shape != codes[spec.name].shape:
                raise BundleError(
                    f"The output {spec.name!r} of {what} has the shape {codes[spec.name].shape}, "
                    f"expected {wanted.shape}."
                )
            worst = max(worst, int(np.abs(wanted - codes[spec.name]).max(initial=0)))
        elif spec.is_label_map:
            wanted = np.asarray(expected[spec.name])
            _compare_ids(wanted, codes[spec.name], spec.name, manifest.precision, what)
    return worst


def _run_codes(bundle: LoadedBundle, manifest: Manifest, inputs: Arrays) -> Arrays:
    return bundle.run("uint8", _to_codes(manifest.inputs, inputs))


def _run_encoded(bundle: LoadedBundle, manifest: Manifest, inputs: Arrays) -> list[Arrays]:
    """What the ``encoded`` signature gives, decoded; nothing where a bundle has none."""
    if ENCODED not in manifest.signatures:
        return []
    files = encode_inputs(manifest.inputs, inputs)
    got = bundle.run(ENCODED, files)
    if ENCODED_JPEG in manifest.signatures:
        # JPEG loses too much of random pictures to be measured; the sizes must be right.
        _decode_outputs(manifest.outputs, bundle.run(ENCODED_JPEG, files))
    return [_decode_outputs(manifest.outputs, got)]


def encode_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray]) -> Arrays:
    """The inputs of ``serving_default`` as the ``encoded`` signature takes them, all as PNG."""
    files: Arrays = {}
    for spec in specs:
        value = inputs[spec.name]
        if spec.is_label_map:
            value = encoded.encode_label_maps(tf.constant(value)).numpy()
        elif spec.is_encoded:
            value = encoded.encode_png(tf.constant(image_lib.to_uint8(value))).numpy()
        files[spec.encoded_name] = value
    return files


def _to_codes(specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray]) -> Arrays:
    return {
        spec.name: image_lib.to_uint8(inputs[spec.name]) if spec.is_image else inputs[spec.name]
        for spec in specs
    }


def _decode_outputs(specs: Sequence[TensorSpec], outputs: Mapping[str, np.ndarray]) -> Arrays:
    arrays: Arrays = {}
    for spec in specs:
        value = outputs[spec.encoded_name]
        if spec.is_encoded:
            channels = 1 if spec.is_label_map else spec.shape[3]
            pictures = [
                tf.io.decode_image(file, channels=channels, expand_animations=False).numpy()
                for file in value
            ]
            value = np.stack(pictures)
            value = value[..., 0] if spec.is_label_map else value
        elif spec.is_image:
            value = image_lib.to_uint8(value)
        arrays[spec.name] = value
    return arrays


def _check_description(bundle: LoadedBundle, manifest: Manifest, what: Any) -> None:
    if DESCRIBE not in manifest.signatures:
        return
    told = bundle.run(DESCRIBE, {QUERY: np.array([b"", b""])})[MANIFEST_BYTES]
    expected = decode_description(encode_description(manifest))
    if any(decode_description(text) != expected for text in told):
        raise BundleError(
            f"The signature {DESCRIBE!r} of {what} tells of another model than its manifest."
        )


class LoadedBundle:
    """A SavedModel held in memory, run on NumPy arrays.

    Args:
        bundle_dir: Folder of the SavedModel.

    Raises:
        BundleError: TensorFlow cannot load the folder.
    """

    def __init__(self, bundle_dir: str | os.PathLike[str]) -> None:
        try:
            # The loaded object owns the variables that the signatures read.
            self._owner = tf.saved_model.load(os.fspath(bundle_dir))
        # A damaged variables file surfaces as any of these, depending on where it is cut.
        except (OSError, ValueError, IndexError, KeyError, tf.errors.OpError) as error:
            raise BundleError(
                f"TensorFlow cannot load the bundle {bundle_dir}: {error}."
            ) from error
        self._signatures = dict(self._owner.signatures)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one signature.

        Raises:
            BundleError: There is no such signature, or TensorFlow refuses the inputs.
        """
        if signature not in self._signatures:
            raise BundleError(
                f"The bundle has no signature {signature!r}, only "
                f"{', '.join(sorted(self._signatures))}."
            )
        try:
            outputs = self._signatures[signature](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
        except (ValueError, TypeError, tf.errors.OpError) as error:
            shapes = {name: np.shape(value) for name, value in inputs.items()}
            raise BundleError(f"The bundle cannot run on inputs of {shapes}: {error}.") from error
        return {name: value.numpy() for name, value in outputs.items()}
