"""Predicting one scene: options, plan, blocks, tasks, journal, session."""
