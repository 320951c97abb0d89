"""Geometry: read the sides of a drawn shape off an image, and compute a length or an area."""
