from ..runtime.deprecation import names_left

names_left(__name__)
