"""Pictures of results: arrays, or matplotlib figures outside pyplot, which need no closing."""
