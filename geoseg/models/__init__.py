"""Model cards, bundles, and the input that models take: no torch, no runtime."""
