"""Cases, data sets and data modules."""
