"""Flags of results as sentences for people."""

from __future__ import annotations

from anatozoo.results.draw.style import display_name

WHOLE = {
    # Of the image.
    "colour": "The picture is in colour; its brightness was used.",
    "non_finite": "Some pixels have no value; they were taken for air.",
    "lateral_view": "The file says that this is a lateral view; the model knows frontal ones.",
    "mirrored": "Left and right seem to be exchanged.",
    "upside_down": "The image seems to be upside down.",
    "turned_90": "The image seems to be turned by 90 degrees.",
    "turned_180": "The image seems to be turned by 180 degrees.",
    "turned_270": "The image seems to be turned by 270 degrees.",
    "not_a_frontal_chest": "This does not look like a frontal chest radiograph; do not trust the contours.",
    "burned_in_annotation": "The file says that words are burned into its pixels; they may name the patient.",
    "modality_unknown": "The file does not say what kind of image it is.",
    "single_slice": "There is one slice only.",
    # Of its DICOM attributes.
    "spacing_unit_assumed_mm": "The file states its spacing without a unit; millimetres were assumed.",
    "spacing_inconsistent": "The file states two spacings that contradict each other.",
    "spacing_implausible": "By its spacing, the field of view would be impossibly small or large.",
    "magnification_ignored": "The stated magnification is not plausible and was not used.",
    "non_square_pixels": "Pixels are not square; the model saw the body in its proportions.",
    "pixel_aspect_ignored": "The stated shape of the pixels is not plausible and was not used.",
    "sform_qform_differ": "The file places its voxels in two ways that differ.",
    "window_ignored": "The stated window would hide most of the image and was not applied.",
    "bits_stored_ignored": "The stated number of bits does not fit the pixels; all bits were used.",
    "high_bits_ignored": "Bits above the stated ones were left out.",
    "high_bit_ignored": "The stated position of the bits does not fit the pixels and was not used.",
    "sign_ignored": "The file says that pixels have a sign, which they seem not to have.",
    "sign_assumed": "Pixels seem to have a sign, which the file does not say.",
    "byte_order_ignored": "The bytes of the pixels were stored in the wrong order; they were swapped.",
    "padding_ignored": "The stated padding value stands for much of the image and was not used.",
    "rescale_ignored": "The stated rescaling of values is not possible and was not applied.",
    "lut_bits": "A lookup table states a width that does not fit its entries.",
    "lut_length": "A lookup table has another length than it states.",
    "lut_byte_order": "The bytes of a lookup table were stored in the wrong order; they were swapped.",
    "presentation_inverse": "The file asks for inverted display, which was applied.",
    "presentation_lut_ignored": "The stated presentation table was not applied.",
    # Of the anatomy.
    "landmarks_outside_image": "Over 5 % of the landmarks lie outside the image.",
    "very_small_anatomy": "The anatomy is very small in this image.",
    "anatomy_at_border": "Organs reach the border of what the model sees, and may be cut off.",
    "larger_than_the_models_frame": "The image is larger than what the model sees; the rest was left out.",
    "slice_order_uncertain": "It is not clear which slice is the base of the heart.",
    "unusual_spacing": "Voxels have another size than those that the model was trained on.",
    "unlike_atlas": "No image of the atlas resembles this one.",
    "sides_swapped": "Left and right were exchanged in the mask.",
    "unknown_spacing": "The file does not say how large its voxels are; sizes are in voxels.",
    "spacing_of_one": "The file says 1 mm along all axes, as files do that have lost their spacing.",
    "unlike_millimetres": "The surface is impossibly small or large in millimetres.",
    "open_surface": "The surface has open ends, and so no volume.",
    "loop": "Roots touch one another; the shortest way was taken.",
    "leaves_picture": "A root ends at the picture's border: what is measured is too short.",
    "fills_picture": "Over a fifth of the picture is root, which is much for a mask of roots.",
    "seed_moved": "No root is at the seed; the nearest place was taken.",
    "tip_lost": "Nothing is near the main root's tip of the frame before.",
    "open_base": "The muscle is no closed ring in the first slice.",
    "open_wall": "The muscle is no closed ring in a slice.",
    "cut_apex": "The stack ends before the apex of the heart.",
    "heart_at_border": "The heart reaches the border of the picture, and may be cut off.",
    "looks_differ": "The model's answers differ much, as where there is no heart.",
    "slice_order_assumed": "Nothing tells which slice is the base of the heart; the first was taken for it.",
    "poor_reconstruction": "The model cannot describe this shape well.",
    "large_change": "The translation has changed much; something may be made up or erased.",
    "quality_not_estimated": "The quality could not be estimated.",
    # Of registrations.
    "field_of_view_differs": "The two images show regions of different size.",
    "field_folds": "The deformation folds in places.",
    "not_more_similar_than_before": "The images are not more similar after the registration.",
}
"""Flags that are about the whole."""
OF_ORGANS = {
    "self_intersecting_": "{}: the contour crosses itself.",
    "untangled_": "{}: a small loop of the contour was opened.",
    "masks_disagree_": "{}: contour and mask of the model disagree.",
    "missing_": "{}: nothing was found.",
    "fragmented_": "{}: it is in several pieces.",
    "negative_ejection_": "{}: it is larger at end-systole than at end-diastole.",
    "unseen_": "{}: the mask does not show it.",
    "poor_fit_": "{}: the landmarks do not reproduce the mask well.",
    "restored_": "{}: most of it was missing and was made up.",
    "removed_": "{}: all of it was removed.",
    "large_change_": "{}: the repair has changed much of it.",
    "gap_": "{}: it is missing in a slice between others, which was interpolated.",
    "hole_": "{}: the mask has a hole, which was filled.",
    "several_parts_": "{}: it is in several parts; the largest counts.",
    "folded_": "{}: the contour is folded; its outer part was taken.",
    "ignored_": "{}: the model does not know it, and left it out.",
}
"""Beginnings of flags that end in the name of an organ."""


def sentence(flag: str) -> str:
    """A flag as a sentence; one that is not known as its words."""
    if flag in WHOLE:
        return WHOLE[flag]
    for start, words in OF_ORGANS.items():
        if flag.startswith(start):
            return words.format(display_name(flag.removeprefix(start)))
    return f"{flag.replace('_', ' ').capitalize()}."
