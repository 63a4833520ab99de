"""From a variant and a viewpoint to files: plant, stage, camera, frame, part ids, crops and rotations."""
