"""Writes a small CelebAMask-HQ in the layout of its authors."""

import pathlib

import cv2
import numpy as np

from facegan.face.labels import CELEBAMASK19

# The mapping sends these numbers to the three splits of CelebA.
CELEBA_INDEX = {"train": 100, "validation": 162771, "test": 182638}


def draw_faces(size, seed):
    """A picture [2 size, 2 size, 3] and a label map [size, size] with every label in it."""
    rng = np.random.default_rng(seed)
    label_map = np.zeros((size, size), np.uint8)
    for label in range(1, CELEBAMASK19.num_labels):
        y, x = rng.integers(0, size - 8, 2)
        label_map[y : y + 8, x : x + 8] = label
    image = rng.integers(0, 256, (2 * size, 2 * size, 3), np.uint8)
    return image, label_map


def write_layout(root, faces, splits):
    """Writes pictures and masks; returns the root.

    Args:
        root: Folder to make.
        faces: Picture [H, W, 3] RGB and label map [h, w] by index.
        splits: Split by index.
    """
    root = pathlib.Path(root)
    (root / "CelebA-HQ-img").mkdir(parents=True)
    mapping = ["idx    orig_idx    orig_file"]
    names = [f"Attribute_{n}" for n in range(40)]
    attributes = [str(len(faces)), " ".join(names)]
    poses = [str(len(faces)), "Yaw Pitch Raw"]
    for index, (image, label_map) in faces.items():
        write_picture(root / "CelebA-HQ-img" / f"{index}.jpg", image)
        folder = root / "CelebAMask-HQ-mask-anno" / str(index // 2000)
        folder.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(CELEBAMASK19.labels):
            mask = label_map == label
            if label and mask.any():
                grey = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
                cv2.imwrite(str(folder / f"{index:05d}_{name}.png"), grey)
        number = CELEBA_INDEX[splits[index]]
        mapping.append(f"{index:<6d} {number:<10d} {number + 1:06d}.jpg")
        signs = " ".join("1" if (index + n) % 2 else "-1" for n in range(40))
        attributes.append(f"{index}.jpg  {signs}")
        poses.append(f"{index}.jpg {index + 0.5} -1.25 3.0")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping) + "\n")
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(attributes) + "\n")
    (root / "CelebAMask-HQ-pose-anno.txt").write_text("\n".join(poses) + "\n")
    return root


def write_picture(path, image):
    """Writes an RGB picture as its ending says."""
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
