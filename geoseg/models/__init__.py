"""Model cards, bundles and what models want to be fed: no torch, no runtime."""
