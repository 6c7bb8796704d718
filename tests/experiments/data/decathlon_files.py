"""A task of the Decathlon's form: a block of two classes in volumes of noise."""

import json

import nibabel
import numpy as np

DESCRIPTION = {
    "name": "Hippocampus",
    "description": "Left and right hippocampus segmentation",
    "tensorImageSize": "3D",
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "modality": {"0": "MRI"},
}


def write(folder, cases, modalities=("MRI",), sides=(9, 10, 7)):
    """Writes the folder of a task, with cases 0, 1, ..., and returns it."""
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    for index in range(cases):
        write_case(folder, index, modalities=len(modalities), sides=sides)
    # As macOS leaves behind in the published archives.
    (folder / "imagesTr" / "._hippocampus_001.nii.gz").write_bytes(b"x")
    description = DESCRIPTION | {
        "modality": {str(i): name for i, name in enumerate(modalities)},
        "numTraining": cases,
        # In no order, as published.
        "training": [
            {"image": f"./imagesTr/{_name(i)}", "label": f"./labelsTr/{_name(i)}"}
            for i in reversed(range(cases))
        ],
        "test": ["./imagesTs/hippocampus_999.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_case(folder, index, modalities=1, sides=(9, 10, 7), value=1.0):
    """An image of float32, brighter where the labels of uint8 say so."""
    rng = np.random.default_rng(index)
    labels = np.zeros(sides, np.uint8)
    labels[2:7, 3:8, 1:5] = 1
    labels[2:7, 3:8, 2] = 2
    labels[2:4, 3:8, 4] = 0
    image = rng.normal(100 * value, 10, (*sides, modalities))
    image += 400.0 * labels[..., None]
    image = image if modalities > 1 else image[..., 0]
    for name, voxels in (("imagesTr", image.astype(np.float32)), ("labelsTr", labels)):
        file = nibabel.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1]))
        nibabel.save(file, folder / name / _name(index))


def _name(index):
    return f"hippocampus_{index:03}.nii.gz"
