"""Measurements that questions of speed are decided by: medians and ratios from one run."""
