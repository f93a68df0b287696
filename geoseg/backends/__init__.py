"""One predictor for each runtime that models are run with."""
