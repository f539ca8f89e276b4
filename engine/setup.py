"""The extension module; everything else about the distribution is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["binding.py:builder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for Python 3.11 and all after it
)
