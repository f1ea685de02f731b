"""Classifiers of images: a backbone, and one probability for each finding."""
