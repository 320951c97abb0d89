"""How much oneDNN, which computes products on CPU, may keep for products of the same size to come."""

CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Environment variables of a process that computes on CPU: sizes that oneDNN and PyTorch keep what they have prepared for.

Here each step and each batch has sizes of its own. By default either keeps 1024, which took half a gigabyte after 50 steps of a model of
three megabytes; 64 are as fast (docs/hardware.md).
"""
