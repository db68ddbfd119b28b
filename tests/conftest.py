"""For all tests: a quiet TensorFlow, and the same hypothesis examples on every run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["COLUMNS"] = "200"  # tables and errors are not folded
os.environ.pop("HGQ_DEBUG", None)

# A slow machine is no failure, and what fails here fails at your desk too. HYPOTHESIS_PROFILE=explore looks for new examples.
settings.register_profile("hgq", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", parent=settings.get_profile("hgq"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "hgq"))
