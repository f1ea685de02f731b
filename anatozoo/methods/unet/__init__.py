"""U-Net, the baseline that labels pixels."""
