"""Pictures with exact depth from the user's own file of the Basel Face Model, which is never shipped."""
