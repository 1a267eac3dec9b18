"""Compares a written bundle with the model it was made from, in numbers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import Manifest, TensorSpec, read_manifest
from facegan.errors import BundleError

Arrays = dict[str, np.ndarray]

# Greatest accepted difference on outputs in [-1, 1], by the type the network computes in. float32:
# the graph optimizer fuses and reorders sums, 1e-6 is usual. The 16-bit types keep 8 and 11 bits.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

# Greatest accepted share of ids that differ, likewise.
_ID_SHARE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What a comparison found.

    Args:
        max_difference: Greatest absolute difference of the float signature from the model.
        max_code_difference: Greatest difference of the uint8 signature from the rounded model
            output, in codes 0..255; 0 where no picture comes out.
        num_examples: How many examples were compared.
    """

    max_difference: float
    max_code_difference: int
    num_examples: int


def sample_inputs(
    specs: Sequence[TensorSpec], batch_size: int, *, free_size: int = 64, seed: int = 0
) -> Arrays:
    """Random inputs for a signature.

    Args:
        specs: The tensors to make.
        batch_size: First axis.
        free_size: Size of every other free axis.
        seed: Of the random numbers.

    Returns:
        Arrays by name. Pictures are exact uint8 codes turned into [-1, 1], so that both signatures
        can be fed with the same values.
    """
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for spec in specs:
        shape = (batch_size, *(size or free_size for size in spec.shape[1:]))
        if spec.is_image:
            codes = random.integers(0, 256, shape, dtype=np.uint8)
            arrays[spec.name] = image_lib.to_float(codes)
        elif spec.dtype.startswith(("int", "uint")):
            low, high = spec.value_range or (0, 1)
            arrays[spec.name] = random.integers(int(low), int(high) + 1, shape).astype(spec.dtype)
        elif spec.value_range is not None:
            arrays[spec.name] = random.uniform(*spec.value_range, shape).astype(spec.dtype)
        else:
            arrays[spec.name] = random.standard_normal(shape).astype(spec.dtype)
    return arrays


def verify_bundle(
    bundle_dir: str | os.PathLike[str],
    reference: Callable[[Mapping[str, np.ndarray]], Arrays],
    *,
    batch_sizes: Sequence[int] = (1, 2),
    tolerance: float | None = None,
) -> VerifyReport:
    """Runs both signatures of a bundle and compares them with a reference.

    Args:
        bundle_dir: The bundle; its manifest says which tensors to feed.
        reference: Computes the expected float outputs from float inputs.
        batch_sizes: Batches to try; two sizes show that the batch axis is free.
        tolerance: Greatest accepted absolute difference, None for the default of the precision.

    Raises:
        BundleError: The SavedModel cannot be loaded or run, an output has another shape or is not
            finite, or differs by more than the tolerance.
    """
    manifest = read_manifest(bundle_dir, verify=True)
    limit = _TOLERANCE[manifest.precision] if tolerance is None else tolerance
    bundle = LoadedBundle(bundle_dir)
    worst, worst_code, count = 0.0, 0, 0
    for seed, batch_size in enumerate(batch_sizes):
        inputs = sample_inputs(manifest.inputs, batch_size, seed=seed)
        expected = reference(inputs)
        got = bundle.run("serving_default", inputs)
        worst = max(worst, max_difference(expected, got, manifest, bundle_dir))
        worst_code = max(worst_code, _code_difference(bundle, manifest, inputs, expected))
        count += batch_size
    # One code is 2/255; rounding alone may move a value that sits between two codes by one.
    code_limit = int(np.ceil(limit * 127.5)) if limit > 0 else 0
    if worst > limit or worst_code > code_limit:
        raise BundleError(
            f"The exported model {bundle_dir} differs from the one it was made from by "
            f"{worst:.3g} ({worst_code} codes of 255); at most {limit:.3g} ({code_limit}) is "
            "accepted. Export in float32, or raise the tolerance if the type is meant to be coarse."
        )
    return VerifyReport(max_difference=worst, max_code_difference=worst_code, num_examples=count)


def verify_methods(
    bundle_dir: str | os.PathLike[str],
    reference: Callable[[str, Mapping[str, np.ndarray]], Arrays],
) -> None:
    """Runs each method of a bundle and compares it with a reference, relative to its outputs' size.

    Args:
        bundle_dir: The bundle.
        reference: Computes what a method, by name, makes of float inputs.

    Raises:
        BundleError: A method cannot be run or gives something else.
    """
    manifest = read_manifest(bundle_dir)
    if not manifest.methods:
        return
    bundle, limit = LoadedBundle(bundle_dir), _TOLERANCE[manifest.precision]
    for name, method in manifest.methods.items():
        inputs = sample_inputs(method.inputs, 2, free_size=3)
        expected, got = reference(name, inputs), bundle.run(name, inputs)
        for output, value in expected.items():
            size = max(1.0, float(np.abs(value).max(initial=0.0)))
            worst = float(np.abs(value - got[output]).max(initial=0.0)) / size
            if not worst <= limit:
                raise BundleError(
                    f"The signature {name!r} of {bundle_dir} differs from the model by {worst:.3g} "
                    f"of its output's size; at most {limit:.3g} is accepted."
                )


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
    bundle: LoadedBundle, manifest: Manifest, inputs: Arrays, expected: Arrays
) -> int:
    images = {spec.name for spec in manifest.inputs if spec.is_image}
    codes = {k: image_lib.to_uint8(v) if k in images else v for k, v in inputs.items()}
    got = bundle.run("uint8", codes)
    worst = 0
    for spec in manifest.outputs:
        if spec.is_image:
            a = image_lib.to_uint8(expected[spec.name]).astype(np.int32)
            worst = max(worst, int(np.abs(a - got[spec.name]).max(initial=0)))
    return worst


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
