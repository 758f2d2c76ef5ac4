"""Photographs into objects, and objects changed: inversion, light, views, walks between objects, style mixing."""
