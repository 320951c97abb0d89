"""What runs in the driver process: the algorithm (controller.py) and what it directs."""
