"""Which packages the wheel holds: `converters/` and `firmware_templates/` stand beside `hgq/` and are installed inside it."""

from setuptools import find_packages, setup

FOLDERS = {"hgq": "hgq", "hgq.converters": "converters", "hgq.firmware_templates": "firmware_templates"}

packages = [name for root, folder in FOLDERS.items() for name in (root, *(f"{root}.{sub}" for sub in find_packages(folder)))]

setup(packages=packages, package_dir=FOLDERS)
