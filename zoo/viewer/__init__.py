"""A page in the browser: turn a face, light it, walk to another one, drop a photograph. See docs/viewer.md."""
