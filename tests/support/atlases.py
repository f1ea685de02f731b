"""Atlases of generated chests."""

import numpy as np
import torch

from anatozoo.methods.multiatlas.model import STEPS, MultiAtlasModel
from tests.support.chest_data import moved_chest


def fill_atlas(model: MultiAtlasModel) -> None:
    """Give each image of an empty model's atlas a chest of its own, with its landmarks.

    Args:
        model: its organs are those of the phantoms, with as many landmarks or fewer.
    """
    images, landmarks = [], []
    for number in range(len(model.atlas)):
        chest = moved_chest(model.side, number)
        points = [chest.landmarks[organ][:count] for organ, count in model.organs.items()]
        images.append(torch.from_numpy(chest.image))
        landmarks.append(torch.from_numpy(np.concatenate(points) / model.side * STEPS).round().int())
    model.put(model.atlas, torch.stack(images), torch.stack(landmarks))
