"""Draw the dataset: from a variant and a view to frame, part ids, derivatives and their files."""
