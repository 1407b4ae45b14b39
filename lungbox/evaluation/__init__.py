"""Scoring what is trained: predict once, then figures and operating points."""
