"""Layouts of data sets: one file per layout; `anatozoo.data.layouts.registry` lists them."""
