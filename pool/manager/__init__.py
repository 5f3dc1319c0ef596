"""Layer 3: `ResourcePoolManager`, generic over what its members tell of themselves."""
