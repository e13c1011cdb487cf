"""Measured costs: what a code's network takes on a device, in time, memory and energy."""
