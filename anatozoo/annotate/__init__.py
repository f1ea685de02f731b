"""Annotate whole archives: one plan, shards that any number of machines do, every image exactly once."""

from anatozoo.annotate.plan import Item, Plan, Settings
from anatozoo.annotate.run import Annotation, annotate

__all__ = ["Annotation", "Item", "Plan", "Settings", "annotate"]
