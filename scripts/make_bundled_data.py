"""Make hgq/data/jsc_sim.npz, the data set in the package, from the full JSC-sim file, and print what its README states.

    python scripts/make_bundled_data.py /work/shared/data/jsc_sim_hlf.npz

Only the rows are fewer: values, types and order are the source's. Members are written with a fixed date so that the file, and with it
its SHA-256, comes out the same each time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

TRAIN = 35_000
KEYS = ("x_train", "y_train", "x_test", "y_test", "features", "classes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "hgq" / "data" / "jsc_sim.npz")
    options = parser.parse_args()
    with np.load(options.source) as source:
        arrays = {key: source[key] for key in KEYS}
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:TRAIN], arrays["y_train"][:TRAIN]
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, value in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, value)
            member = zipfile.ZipInfo(f"{key}.npy", (2026, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, buffer.getvalue())
    print(options.out, options.out.stat().st_size, "bytes, sha256", hashlib.sha256(options.out.read_bytes()).hexdigest())
    for key, value in arrays.items():
        print(f"  {key} {value.shape} {value.dtype}")
    print("  classes in train", np.bincount(arrays["y_train"]).tolist(), "and in test", np.bincount(arrays["y_test"]).tolist())


if __name__ == "__main__":
    main()
