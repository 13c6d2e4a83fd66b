"""Studies: one run or many, always through `simulate` and always on models as data."""
