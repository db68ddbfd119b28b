"""Backends and importers: from an `hgq.ir.Graph` to firmware, and from other libraries' models to ours. Installed as ``hgq.converters``."""

if __name__ != "hgq.converters":
    raise ImportError(
        f"This package is `hgq.converters`; it was imported as `{__name__}`. Under two names every class in it would exist twice. "
        "Write `import hgq.converters`."
    )
