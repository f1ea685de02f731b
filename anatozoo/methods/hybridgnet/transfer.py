"""Starting weights from another checkpoint, also one with other organs, or from an autoencoder of shapes.

The organ graph is block-diagonal, so only tensors with a node axis depend on the organs: rows of the
first linear layer, the up-sampling matrix, the template and the refiner's node embeddings. Beside them, the
last layer of the mask decoder does. Shared organs keep their rows; a network for a subset of the organs then
computes exactly the same contours.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from anatozoo.errors import WeightsError
from anatozoo.nn import graphs
from anatozoo.training.weights import refuse_other_shapes


def _take(value: Tensor, like: Tensor, source: Mapping[str, slice], target: Mapping[str, slice]) -> Tensor:
    """Rows of the shared organs; the others keep the values of the new network."""
    result = like.clone()
    for organ, rows in target.items():
        if organ in source and source[organ].stop - source[organ].start == rows.stop - rows.start:
            result[rows] = value[source[organ]].to(like.dtype)
    return result


def adapt_state(
    state: Mapping[str, Tensor],
    organs: Mapping[str, int],
    dense: Sequence[str],
    own: Mapping[str, Tensor],
    own_organs: Mapping[str, int],
    own_dense: Sequence[str],
) -> dict[str, Tensor]:
    """Fit `state` of a network for `organs` to one for `own_organs` whose fresh state is `own`.

    Args:
        state: tensors to start from.
        organs: landmarks per organ of `state`.
        dense: auxiliary organs of `state`.
        own: tensors of the new network, under the same names.
        own_organs: landmarks per organ of the new network.
        own_dense: auxiliary organs of the new network.

    Raises:
        WeightsError: the networks differ in more than the organs; the message lists the tensors.
    """
    nodes = graphs.organ_slices(organs), graphs.organ_slices(own_organs)
    # Labels of a mask decoder: background, which every network has, then the organs.
    labels = tuple(
        {"": slice(0, 1), **{o: slice(i, i + 1) for i, o in enumerate(n, 1)}} for n in (organs, own_organs)
    )
    coarse = graphs.organ_slices(graphs.coarse(organs)), graphs.organ_slices(graphs.coarse(own_organs))
    # Surplus tensors count too: a network without them computes something else from the same weights.
    # The spacing of landmarks is taken from the training data, so starting weights may lack it. A network may
    # also get a mask decoder, or leave out the variance of the code: it computes the same contours.
    state = {name: value for name, value in state.items() if ".fc_logvar." not in name or name in own}
    new = {name for name in own if ".spacing." in name or ".mask_decoder." in name} - set(state)
    result, wrong = {name: own[name] for name in new}, sorted((set(own) - new) ^ set(state))
    for name, like in own.items():
        value = state.get(name)
        if value is None:
            continue
        if name.endswith("network.up"):
            result[name] = like
            continue
        if "network.expand." in name:
            shape = (sum(graphs.coarse(own_organs).values()), -1, *like.shape[1:])
            old = value.view(sum(graphs.coarse(organs).values()), -1, *value.shape[1:])
            fits = old.shape[1:] == like.view(shape).shape[1:]
            value = _take(old, like.view(shape), *coarse).view_as(like) if fits else value
        elif ".mask_decoder.head." in name:
            value = _take(value, like, *labels)
        elif name.endswith((".embedding", ".template", ".wrap")):
            value = _take(value, like, *nodes)
        elif name.endswith(".projection"):
            # Blocks of the organs on the diagonal, zeros elsewhere: rows, then columns.
            rows = _take(value, like.new_zeros(len(like), value.shape[1]), *nodes)
            value = _take(rows.T, like.T, *nodes).T.contiguous()
        elif list(dense) != list(own_dense) and value.shape != like.shape:
            raise WeightsError(
                f"the checkpoint's refiner sees masks of {', '.join(dense)}: set model.dense_organs to these."
            )
        if value.shape != like.shape:
            wrong.append(f"{name}: {tuple(value.shape)} here, {tuple(like.shape)} needed")
        else:
            result[name] = value.to(like.dtype)
    refuse_other_shapes(wrong)
    return result


DECODER = ("network.expand.", "network.coarse", "network.fine", "network.head.", "network.up")
"""Starts of the names of the graph decoder's tensors."""


def take_decoder(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Take the graph decoder of an autoencoder of shapes, such as `anatozoo.methods.shapevae`.

    Where `state` says how the codes of real shapes are distributed, ``network.prior_mean`` and
    ``network.prior_root``, this becomes part of the first layer: codes that are N(0, I), as HybridGNet's KL
    divergence wants them, then give such shapes.

    Args:
        state: tensors of the autoencoder, of the same organs, latents, features, order and up-sampling.
        own: tensors of the new network.

    Returns:
        All tensors of the new network, and a sentence about what was taken and what starts fresh.

    Raises:
        WeightsError: the new network's decoder corrects a mean shape, which the autoencoder's does not.
    """
    if "network.template" in own:
        raise WeightsError(
            "the autoencoder's decoder gives places, this network's corrects a mean shape: set "
            "model.template to false."
        )
    result = dict(own)
    taken = [name for name in own if name.startswith(DECODER) and name in state]
    fits = [name for name in taken if state[name].shape == own[name].shape]
    result |= {name: state[name].to(own[name].dtype) for name in fits}
    if "network.prior_root" in state:
        names = ("network.expand.weight", "network.expand.bias", "network.prior_root", "network.prior_mean")
        weight, bias, root, mean = (state[name].float() for name in names)
        result["network.expand.weight"] = (weight @ root).to(own["network.expand.weight"].dtype)
        result["network.expand.bias"] = (bias + weight @ mean).to(own["network.expand.bias"].dtype)
    fresh = sorted({name.split(".")[1] for name in own if name not in fits and name.startswith("network.")})
    layers = sorted({name.split(".")[1] for name in fits} - set(fresh))
    return result, (
        f"the graph decoder starts from an autoencoder of shapes: {', '.join(layers)} ({len(fits)} tensors). "
        f"Fresh weights: {', '.join(fresh)}."
    )
