"""How a version of the weights travels from the learners to the engines."""
