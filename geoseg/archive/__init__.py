"""Many scenes: sources, manifest, lease, run."""
