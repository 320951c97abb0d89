"""How much memory a run takes on each device, from its config and the model's config.json: no weights are read, nothing is started.

shape.py       what there is to hold: parameters, and the sizes of a token
parts.py       an amount of memory under a name, and the devices that hold it
load.py        how many tokens a step has, as a rule and at most
learner.py     what a learner rank holds
engine.py      what an engine holds
host.py        all processes on a machine without GPUs
gpus.py        each GPU, by the placement of engines and learners
"""
