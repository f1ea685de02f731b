"""From the source's pixels to the network's frame and back."""
