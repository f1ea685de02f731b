"""U-Net, the baseline that labels each pixel."""
