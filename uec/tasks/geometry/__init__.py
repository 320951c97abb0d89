"""Geometry: read a length, angle or area off a drawn figure."""
