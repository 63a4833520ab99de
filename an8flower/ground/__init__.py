"""What all three packages build on: registry, files, progress, jobs. It imports nothing else of ours."""
