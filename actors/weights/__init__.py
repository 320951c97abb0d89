"""The transport of weights from the learners to the engines."""
