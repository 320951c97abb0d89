"""Estimates how much memory a run takes on each device, from its config and the model's config.json; reads no weights, starts nothing.

shape.py            the sizes of a model: parameters, layers, bytes a token
allocations.py      named amounts of memory, and the devices that hold them
workload.py         how many tokens a step has, typically and at most
learner_memory.py   what a learner rank holds
engine_memory.py    what an engine holds
host.py             all processes on a machine without GPUs
gpus.py             each GPU, by the placement of engines and learners
placement.py        the placement and the engine's share of a GPU, from the cluster's GPUs
object_store.py     the object store that a step's images need
checkpoints.py      the disk space of checkpoints
memory_report.py    the lines that a dry run prints
"""
