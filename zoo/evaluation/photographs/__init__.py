"""Photographs of people as test data: their faces, and what methods make of them."""
