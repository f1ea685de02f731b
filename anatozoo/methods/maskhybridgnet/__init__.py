"""Mask-HybridGNet: contours of organs, learnt from masks without corresponding landmarks."""
