"""The driver process: the algorithm (controller.py) and the modules that it calls."""
