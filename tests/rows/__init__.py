"""The catalogue of layers: one file a family; see `tests.check_layer`."""
