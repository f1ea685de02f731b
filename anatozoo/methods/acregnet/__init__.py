"""AC-RegNet: deformable registration with anatomical constraints."""
