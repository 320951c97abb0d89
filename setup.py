"""The packages of the wheel; everything else stands in setup.cfg.

A wheel may put only the top-level name `uec` into site-packages, where `actors` and `configs` could be anybody's. It therefore holds the
folders actors/ and configs/ in uec/bundled/, which `uec/__init__.py` adds to sys.path. launch/ and bench/ need a checkout and stay out.
"""

from setuptools import find_packages, setup

BUNDLED = "uec.bundled"
actors = [f"{BUNDLED}.{name}" for name in find_packages(include=["actors", "actors.*"])]
setup(
    packages=[*find_packages(include=["uec", "uec.*"]), *actors, f"{BUNDLED}.configs"],
    package_dir={f"{BUNDLED}.actors": "actors", f"{BUNDLED}.configs": "configs"},
    package_data={
        "uec.eval": ["*.yaml"],
        "uec.report": ["page/*", "vendor/*"],
        f"{BUNDLED}.configs": ["*.yaml", "*/*.yaml", "*/*.py"],
    },
)
