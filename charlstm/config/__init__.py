"""The settings: what keys there are, and how files and options give them."""
