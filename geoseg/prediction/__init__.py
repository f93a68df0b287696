"""Predicting one scene: options, plan, blocks, graph, journal, run."""
