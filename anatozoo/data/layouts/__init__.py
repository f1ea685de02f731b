"""How data sets lie in folders: one file per layout, all of them in `anatozoo.data.layouts.registry`."""
