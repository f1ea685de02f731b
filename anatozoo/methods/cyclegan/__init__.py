"""CycleGAN: images of one domain in the look of another, learnt without pairs."""
